/**
 * OpenTelemetry traces of the delivery of events.
 *
 * @module flagcast/tracing
 */
import { ROOT_CONTEXT, SpanKind, trace, type Tracer } from '@opentelemetry/api';
import type { BroadcastBatch, Lifecycle } from '../lifecycle.js';

/**
 * Makes a trace of each batch with events when all connections have it: `flagcast.batch` from its newest commit (from
 * the start of the read, if the database records no commit times), with `read` and `broadcast`. The attributes are
 * numbers: no user, project or value. Default `tracer`: of the registered provider. Returns a function that ends it.
 */
export function traceBatches(lifecycle: Lifecycle, tracer: Tracer = trace.getTracer('flagcast')): () => void {
  const record = (batch: BroadcastBatch): void => recordBatch(tracer, batch);
  lifecycle.on('batch:broadcast', record);
  return () => void lifecycle.off('batch:broadcast', record);
}

function recordBatch(tracer: Tracer, batch: BroadcastBatch): void {
  const { events, channels, deliveries, readMs, seenAtMs, sentAtMs, committed } = batch;
  const readAtMs = seenAtMs - (readMs ?? 0);
  // The clock of the database may be ahead, and a read includes commits made while it begins.
  const startTime = Math.min(committed?.lastAtMs ?? readAtMs, readAtMs);
  const root = tracer.startSpan('flagcast.batch', {
    root: true,
    kind: SpanKind.INTERNAL,
    startTime,
    attributes: {
      'flagcast.events': events,
      'flagcast.channels': channels,
      'flagcast.deliveries': deliveries,
    },
  });
  if (root.isRecording()) {
    const parent = trace.setSpan(ROOT_CONTEXT, root);
    if (readMs !== null) tracer.startSpan('read', { startTime: readAtMs }, parent).end(seenAtMs);
    tracer.startSpan('broadcast', { startTime: seenAtMs }, parent).end(sentAtMs);
  }
  root.end(sentAtMs);
}
