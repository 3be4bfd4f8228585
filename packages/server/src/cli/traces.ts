import { setTimeout as delay } from 'node:timers/promises';
import { describeError } from '../describe.js';
import type { Lifecycle } from '../lifecycle.js';
import { isWorthLogging, type Logger } from '../operations/log.js';
import { CommandError } from './command.js';

/** How long the last spans may take to be sent when the server ends, in milliseconds. */
const FLUSH_LIMIT_MS = 2_000;

/**
 * Sends a trace of each batch where the environment says; what OpenTelemetry needs for it is loaded here, and
 * nowhere else. Resolves with what sends the last ones and ends it.
 *
 * @throws CommandError where its packages are not installed.
 */
export async function startTraces(lifecycle: Lifecycle, logger: Logger): Promise<() => Promise<void>> {
  const { traceBatches, exportTraces } = await loadTracing();
  let problems = 0;
  const { tracer, stop } = exportTraces(process.env, (message) => {
    problems += 1;
    if (isWorthLogging(problems)) {
      logger('traces_failed', { problems, error: message });
    }
  });
  const end = traceBatches(lifecycle, tracer);
  logger('traces_started');
  return async () => {
    end();
    // A collector that does not answer must not hold up the end.
    const limit = new AbortController();
    const sent = stop().then(() => null, describeError);
    const late = delay(FLUSH_LIMIT_MS, `not sent within ${FLUSH_LIMIT_MS / 1_000} s`, {
      signal: limit.signal,
    }).catch(() => null);
    const problem = await Promise.race([sent, late]);
    if (problem !== null) logger('traces_not_sent', { error: problem });
    limit.abort();
  };
}

async function loadTracing(): Promise<
  typeof import('../operations/batch-spans.js') & typeof import('../operations/export-traces.js')
> {
  try {
    return {
      ...(await import('../operations/batch-spans.js')),
      ...(await import('../operations/export-traces.js')),
    };
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'ERR_MODULE_NOT_FOUND')) throw error;
    throw new CommandError(
      'OTEL_EXPORTER_OTLP_ENDPOINT (or OTEL_EXPORTER_OTLP_TRACES_ENDPOINT) asks for traces, but what sends them is not installed: npm install @opentelemetry/api @opentelemetry/sdk-trace-node @opentelemetry/exporter-trace-otlp-http, or unset it',
    );
  }
}
