import { destination, type Logger, pino, stdTimeFunctions } from 'pino';
import { describeError, printable, printableJson, scrub } from '../describe.js';
import type { Lifecycle, LifecycleEvents } from '../lifecycle.js';
import { LogSampler } from './log-sampler.js';

/** Over how long lines are counted that strangers, or every request, can cause, in milliseconds. */
const SAMPLE_PERIOD_MS = 10_000;
/** How many refusals with one code are logged in that time. */
const REFUSALS_LOGGED = 5;
/** How much of the log is kept while it cannot be written; what comes then is dropped. */
const MAX_UNWRITTEN_BYTES = 1_048_576;

/** Whoever writes a log line; `process.stdout` is one. */
interface LineOutput {
  write(text: string): unknown;
}

/**
 * The log of a server: JSON lines of level info and above, each with `time` (ISO 8601), `level`
 * and `event`, whose names are stable. With `human` short lines for a terminal instead.
 */
export function createLogger(options: { readonly human: boolean; readonly output?: LineOutput }): Logger {
  const { human, output } = options;
  const settings = {
    base: null,
    timestamp: stdTimeFunctions.isoTime,
    formatters: { level: (label: string) => ({ level: label }) },
    hooks: { streamWrite: printableJson },
  };
  if (human) {
    const terminal = output ?? process.stdout;
    return pino(settings, { write: (line: string) => void terminal.write(humanLine(line)) });
  }
  if (output !== undefined) return pino(settings, { write: (line: string) => void output.write(line) });
  const standardOutput = destination({ dest: 1, sync: true, maxLength: MAX_UNWRITTEN_BYTES });
  // A full disk or a reader that went away must not end the server; what fits is written later.
  standardOutput.on('error', () => undefined);
  return pino(settings, standardOutput);
}

/**
 * Logs what happens in the server. `event` is the lifecycle's name with underscores
 * (`reader:history-lost`: `reader_history_lost`). Of the attempts of an outage the first is logged
 * and then every one that doubles their number. No line holds a token or a connection string.
 */
export function logLifecycle(logger: Logger, lifecycle: Lifecycle): void {
  const failedAttempt = (
    event: string,
    { error, attempt, retryInMs }: LifecycleEvents['reader:failed'][0],
  ): void => {
    if (isWorthLogging(attempt)) logger.warn({ event, attempt, retryInMs, error: describeError(error) });
  };
  const refusals = new LogSampler({ linesPerPeriod: REFUSALS_LOGGED, periodMs: SAMPLE_PERIOD_MS });
  const accessFailures = new LogSampler({ linesPerPeriod: 1, periodMs: SAMPLE_PERIOD_MS });
  // A table of all, so that whoever adds an event decides here how it is logged.
  const subscribers: {
    [Name in keyof LifecycleEvents]: (...payload: LifecycleEvents[Name]) => void;
  } = {
    'reader:started': (started) => logger.info({ event: 'reader_started', ...started }),
    'reader:read': (read) => logger.trace({ event: 'reader_read', ...read }),
    'reader:page-failed': ({ error, ...page }) => {
      logger.warn({ event: 'reader_page_failed', error: describeError(error), ...page });
    },
    'reader:triggers': (triggers) => logger.trace({ event: 'reader_triggers', ...triggers }),
    'freshness:changed': (changed) => {
      const isStale = changed.state === 'stale';
      const details = isStale && {
        reason: changed.reason,
        since: new Date(changed.sinceMs).toISOString(),
        problem: scrub(changed.problem),
      };
      logger[isStale ? 'error' : 'info']({ event: 'freshness_changed', state: changed.state, ...details });
    },
    'rights:changed': () => logger.debug({ event: 'rights_changed' }),
    'channels:changed': () => logger.debug({ event: 'channels_changed' }),
    'log:pruned': (pruned) => logger.debug({ event: 'log_pruned', ...pruned }),
    'log:prune-failed': ({ error }) => {
      logger.warn({ event: 'log_prune_failed', error: describeError(error) });
    },
    'reader:failed': (failed) => failedAttempt('reader_failed', failed),
    'reader:recovered': (recovered) => logger.info({ event: 'reader_recovered', ...recovered }),
    'reader:history-lost': ({ reason }) => {
      logger.error({ event: 'reader_history_lost', reason: scrub(reason) });
    },
    'listener:listening': (listening) => logger.info({ event: 'listener_listening', ...listening }),
    'listener:failed': (failed) => failedAttempt('listener_failed', failed),
    'listener:unavailable': (deaf) => logger.warn({ event: 'listener_unavailable', ...deaf }),
    'relay:connected': (connected) => logger.info({ event: 'relay_connected', ...connected }),
    'relay:lost': ({ error }) => {
      logger.warn({ event: 'relay_lost', error: describeError(error), reading: 'directly' });
    },
    'relay:failed': (failed) => failedAttempt('relay_failed', failed),
    'relay:refused': (refused) => logger.error({ event: 'relay_refused', ...refused }),
    'relay:elected': (elected) => logger.info({ event: 'relay_elected', ...elected }),
    'relay:leadership-lost': ({ reason }) =>
      logger.warn({ event: 'relay_leadership_lost', reason: scrub(reason) }),
    'relay:following': (following) => logger.info({ event: 'relay_following', ...following }),
    'relay:direct': ({ reason }) => logger.warn({ event: 'relay_direct', reason: scrub(reason) }),
    'relay:published': (published) => logger.trace({ event: 'relay_published', ...published }),
    'relay:applied': (applied) => logger.trace({ event: 'relay_applied', ...applied }),
    'relay:heard': (heard) => logger.trace({ event: 'relay_heard', ...heard }),
    'relay:fetched': (fetched) => logger.debug({ event: 'relay_fetched', ...fetched }),
    'socket-writer:fallback': () => {
      logger.warn({
        event: 'socket_writer_fallback',
        advice:
          'a completion of io_uring was missing, so each connection is written to by itself: update the kernel',
      });
    },
    'socket-writer:chosen': ({ writer, reason }) => {
      logger.info({
        event: 'socket_writer_chosen',
        writer,
        ...(reason !== null && { reason: scrub(reason) }),
      });
    },
    'batch:broadcast': (batch) => logger.debug({ event: 'batch_broadcast', ...batch }),
    'connection:opened': (opened) => logger.info({ event: 'connection_opened', ...opened }),
    'connection:closed': (closed) => {
      logger.info({ event: 'connection_closed', ...closed, reason: scrub(closed.reason) });
    },
    'connection:paused': (paused) => logger.debug({ event: 'connection_paused', ...paused }),
    'connection:drained': (drained) => logger.debug({ event: 'connection_drained', ...drained }),
    'channel:resumed': (resumed) => logger.debug({ event: 'channel_resumed', ...resumed }),
    'channel:resync': (resync) => logger.info({ event: 'channel_resync', ...resync }),
    'connection:refused': ({ status, code, address }) => {
      refusals.write(code, (unlogged) => {
        const details = unlogged > 0 ? { unlogged } : { address };
        logger.info({ event: 'connection_refused', status, code, ...details });
      });
    },
    'request:refused': (refused) => logger.debug({ event: 'request_refused', ...refused }),
    'access:rechecked': (rechecked) => {
      logger[rechecked.closed > 0 ? 'info' : 'debug']({ event: 'access_rechecked', ...rechecked });
    },
    'access:rows-ignored': (ignored) => {
      const advice = 'each needs a user, a project, an environment and its key, as texts that are not empty';
      logger.warn({ event: 'access_rows_ignored', ...ignored, advice });
    },
    'access:failed': ({ error, request }) => {
      accessFailures.write('access', (unlogged) => {
        logger.warn({ event: 'access_failed', error: describeError(error), request, unlogged });
      });
    },
  };
  for (const [name, subscriber] of Object.entries(subscribers)) {
    lifecycle.on(name as keyof LifecycleEvents, subscriber);
  }
}

/** Whether a failed attempt (from 1) is to be logged: the first, and then at gaps that double. */
export function isWorthLogging(attempt: number): boolean {
  return Number.isInteger(Math.log2(attempt));
}

/** `12:00:01 WARN reader failed attempt=1 error="ECONNREFUSED: ..."`; the level only where it is not info. */
function humanLine(json: string): string {
  const entry = JSON.parse(json) as { time: string; level: string; event?: string };
  const { time, level, event = '', ...fields } = entry;
  const clock = new Date(time).toTimeString().slice(0, 8);
  const words = Object.entries(fields).map(([name, value]) => `${name}=${fieldText(value)}`);
  const parts = [clock, level === 'info' ? '' : level.toUpperCase(), event.replaceAll('_', ' '), ...words];
  return `${parts.filter((part) => part !== '').join(' ')}\n`;
}

function fieldText(value: unknown): string {
  const text = typeof value === 'string' ? printable(value) : printableJson(JSON.stringify(value));
  return typeof value === 'string' && /[\s"=]/.test(text) ? JSON.stringify(text) : text;
}
