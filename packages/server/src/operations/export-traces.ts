import { type Attributes, diag, DiagLogLevel } from '@opentelemetry/api';
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-http';
import {
  AlwaysOnSampler,
  BatchSpanProcessor,
  NodeTracerProvider,
  type ReadableSpan,
} from '@opentelemetry/sdk-trace-node';
import type { Lifecycle } from '../lifecycle.js';
import { isWorthLogging, within } from '../retry.js';
import type { Logger } from './log.js';
import { traceBatches } from './trace-batches.js';

/** How long the last spans may take to be sent when the server stops, in milliseconds. */
const flushLimitMs = 2_000;

/**
 * Sends a trace of each batch to the OpenTelemetry collector of the standard variables (OTEL_EXPORTER_OTLP_ENDPOINT and
 * others, which the exporter reads), as JSON over HTTP. Returns a function that sends the last spans and ends it.
 */
export function exportTraces(lifecycle: Lifecycle, logger: Logger): () => Promise<void> {
  let problems = 0;
  const report = (text: string): void => {
    problems += 1;
    if (isWorthLogging(problems)) logger('traces_failed', { problems, error: messageOf(text) });
  };
  const ignore = (): void => undefined;
  diag.setLogger(
    { error: report, warn: report, info: ignore, debug: ignore, verbose: ignore },
    { logLevel: DiagLogLevel.WARN, suppressOverrideMessage: true },
  );
  const provider = new NodeTracerProvider({
    resource: resourceOf(process.env),
    spanProcessors: [new BatchSpanProcessor(new OTLPTraceExporter())],
  });
  const end = traceBatches(lifecycle, provider.getTracer('flagcast'));
  logger('traces_started');
  return async () => {
    end();
    // A collector that does not answer must not delay the end of the server.
    await within(flushLimitMs, provider.shutdown(), `not sent within ${flushLimitMs / 1_000} s`).catch(
      (error: unknown) => logger('traces_not_sent', { error }),
    );
    diag.disable();
  };
}

/**
 * OTEL_RESOURCE_ATTRIBUTES and OTEL_SERVICE_NAME (default `flagcast`), merged over the SDK's own attributes, which only
 * a span has without one more package.
 */
function resourceOf(environment: NodeJS.ProcessEnv): ReadableSpan['resource'] {
  const provider = new NodeTracerProvider({ sampler: new AlwaysOnSampler() });
  const { resource } = provider.getTracer('flagcast').startSpan('none') as unknown as ReadableSpan;
  const attributes: Attributes = { 'service.name': 'flagcast' };
  for (const pair of (environment['OTEL_RESOURCE_ATTRIBUTES'] ?? '').split(',')) {
    const [name = '', value] = pair.split('=', 2).map((part) => part.trim());
    if (name !== '' && value !== undefined) attributes[name] = decoded(value);
  }
  const serviceName = environment['OTEL_SERVICE_NAME']?.trim() ?? '';
  if (serviceName !== '') attributes['service.name'] = serviceName;
  const getRawAttributes = (): ReturnType<typeof resource.getRawAttributes> => Object.entries(attributes);
  return resource.merge({ attributes, getRawAttributes, merge: () => resource });
}

function decoded(value: string): string {
  try {
    return decodeURIComponent(value);
  } catch {
    return value;
  }
}

/** Failures are JSON with a stack; other problems are text. */
function messageOf(text: string): string {
  try {
    const { message } = JSON.parse(text) as { message?: unknown };
    return typeof message === 'string' ? message : text;
  } catch {
    return text;
  }
}
