import { ROOT_CONTEXT, SpanKind, trace, type Tracer } from '@opentelemetry/api';
import type { BroadcastBatch, Lifecycle } from '../lifecycle.js';

/**
 * One trace for each batch that brought events, made when all connections have been handed it: `flagcast.batch`
 * from the newest commit in it (where the database records that, else from the beginning of the read) until then,
 * and in it `read` and `broadcast`. Attributes are numbers; none names a user, a project or a value.
 *
 * `tracer`: default that of the provider which the host has registered. Returns what ends it.
 */
export function traceBatches(lifecycle: Lifecycle, tracer: Tracer = trace.getTracer('flagcast')): () => void {
  const record = (batch: BroadcastBatch): void => recordBatch(tracer, batch);
  lifecycle.on('batch:broadcast', record);
  return () => void lifecycle.off('batch:broadcast', record);
}

function recordBatch(tracer: Tracer, batch: BroadcastBatch): void {
  const { events, channels, deliveries, readMs, seenAtMs, sentAtMs, committed } = batch;
  const readAtMs = seenAtMs - (readMs ?? 0);
  // The clock of the database may be ahead of this one, and what is committed while a read begins is in it.
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
    const within = trace.setSpan(ROOT_CONTEXT, root);
    if (readMs !== null) tracer.startSpan('read', { startTime: readAtMs }, within).end(seenAtMs);
    tracer.startSpan('broadcast', { startTime: seenAtMs }, within).end(sentAtMs);
  }
  root.end(sentAtMs);
}
