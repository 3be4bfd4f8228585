import { type Attributes, diag, DiagLogLevel, type Tracer } from '@opentelemetry/api';
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-http';
import {
  AlwaysOnSampler,
  BatchSpanProcessor,
  NodeTracerProvider,
  type ReadableSpan,
} from '@opentelemetry/sdk-trace-node';

export interface TraceExport {
  readonly tracer: Tracer;
  /** Sends what has not been sent yet, and ends. */
  readonly stop: () => Promise<void>;
}

/**
 * Sends spans where the standard variables say (OTEL_EXPORTER_OTLP_ENDPOINT and those beside it, which the
 * exporter reads itself), as JSON over HTTP. `onProblem` is told what OpenTelemetry has to say of its failures.
 */
export function exportTraces(
  environment: Readonly<Record<string, string | undefined>>,
  onProblem: (message: string) => void,
): TraceExport {
  const tell = (message: string): void => onProblem(messageOf(message));
  const ignore = (): void => undefined;
  diag.setLogger(
    { error: tell, warn: tell, info: ignore, debug: ignore, verbose: ignore },
    { logLevel: DiagLogLevel.WARN, suppressOverrideMessage: true },
  );
  const provider = new NodeTracerProvider({
    resource: resourceOf(environment),
    spanProcessors: [new BatchSpanProcessor(new OTLPTraceExporter())],
  });
  return {
    tracer: provider.getTracer('flagcast'),
    stop: async () => {
      await provider.shutdown();
      diag.disable();
    },
  };
}

/**
 * Who sends: OTEL_RESOURCE_ATTRIBUTES and OTEL_SERVICE_NAME (default `flagcast`), over what the SDK says of itself.
 * Only a span tells the latter without one more package.
 */
function resourceOf(environment: Readonly<Record<string, string | undefined>>): ReadableSpan['resource'] {
  const provider = new NodeTracerProvider({ sampler: new AlwaysOnSampler() });
  const { resource } = provider.getTracer('flagcast').startSpan('none') as unknown as ReadableSpan;
  const attributes: Attributes = { 'service.name': 'flagcast' };
  for (const pair of (environment['OTEL_RESOURCE_ATTRIBUTES'] ?? '').split(',')) {
    const [name = '', value] = pair.split('=', 2).map((part) => part.trim());
    if (name !== '' && value !== undefined) attributes[name] = decoded(value);
  }
  const serviceName = environment['OTEL_SERVICE_NAME']?.trim() ?? '';
  if (serviceName !== '') attributes['service.name'] = serviceName;
  return resource.merge({
    attributes,
    getRawAttributes: () => Object.entries(attributes),
    merge: () => resource,
  });
}

function decoded(value: string): string {
  try {
    return decodeURIComponent(value);
  } catch {
    return value;
  }
}

/** What failed comes as JSON, with a stack. */
function messageOf(text: string): string {
  try {
    const { message } = JSON.parse(text) as { message?: unknown };
    return typeof message === 'string' ? message : text;
  } catch {
    return text;
  }
}
