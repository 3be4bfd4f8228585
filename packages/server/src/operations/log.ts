import type { EventEmitter } from 'node:events';
import { destination, pino, stdTimeFunctions } from 'pino';
import { describeError, printable, printableJson, scrub } from '../describe.js';
import type { Lifecycle, LifecycleEvents } from '../lifecycle.js';
import { isWorthLogging } from '../retry.js';
import { type LogEvent, logEvents } from './log-events.js';

/** Clients and requests can cause lines. They are counted over this period, in milliseconds. */
const samplePeriodMs = 10_000;
/** Lines for refusals with one code in that period. */
const refusalsLogged = 5;
/** How much of the log is buffered while it cannot be written. Later lines are dropped. */
const maxUnwrittenBytes = 1_048_576;

type Fields = Readonly<Record<string, unknown>>;

/**
 * Writes a line, without passwords, tokens and line breaks. An Error becomes one line of text. `level` differs from the
 * level in the table only where the table says so.
 */
export type Logger = (event: LogEvent, fields?: Fields, level?: 'info') => void;

/**
 * The log of a server: JSON lines with `time` (ISO 8601), `level`, `event` and the fields of the event; with `human`
 * short lines for a terminal. `base`: fields of every line. Default output: stdout.
 */
export function createLogger(options: {
  readonly human: boolean;
  readonly base?: Fields;
  readonly output?: { write(text: string): unknown };
}): Logger {
  const { human, base = null, output = human ? process.stdout : undefined } = options;
  const settings = {
    base,
    timestamp: stdTimeFunctions.isoTime,
    formatters: { level: (label: string) => ({ level: label }) },
    hooks: { streamWrite: (line: string) => (human ? humanLine(line) : printableJson(line)) },
  };
  const stream =
    output === undefined
      ? destination({ dest: 1, sync: true, maxLength: maxUnwrittenBytes })
      : { write: (line: string) => void output.write(line) };
  // A full disk or a closed pipe must not end the server. Buffered lines are written later.
  if ('on' in stream) stream.on('error', () => undefined);
  const logger = pino(settings, stream);
  return (event, fields = {}, level) => {
    logger[level ?? logEvents[event].level]({ event, ...described(fields) });
  };
}

/**
 * Logs what happens in the server: every entry of logEvents with a lifecycle event. Of the attempts of an
 * outage, the first is logged, and then each one that doubles their number.
 */
export function logLifecycle(logger: Logger, lifecycle: Lifecycle): void {
  const sampler = new LogSampler(samplePeriodMs);
  /** Events that are not logged each time, or with other fields than their own. */
  const special: { [Name in keyof LifecycleEvents]?: (payload: LifecycleEvents[Name][0]) => void } = {
    'freshness:changed': (change) => {
      if (change.state === 'fresh') logger('freshness_changed', change, 'info');
      else {
        const { state, reason, problem, sinceMs } = change;
        const since = new Date(sinceMs).toISOString();
        logger('freshness_changed', { state, reason, since, problem });
      }
    },
    'socket-writer:chosen': ({ writer, reason }) =>
      logger('socket_writer_chosen', { writer, ...(reason !== null && { reason }) }),
    'socket-writer:fallback': () => logger('socket_writer_fallback', { advice: 'update the kernel' }),
    'access:rows-ignored': (ignored) => {
      const advice =
        'each row needs a user, a project, an environment and its key, as texts that are not empty';
      logger('access_rows_ignored', { ...ignored, advice });
    },
    'connection:refused': (refused) => {
      sampler.write(refused.code, refusalsLogged, (unlogged) => {
        const { status, code } = refused;
        logger('connection_refused', unlogged === 0 ? refused : { status, code, unlogged });
      });
    },
    'access:rechecked': (rechecked) => {
      if (rechecked.closed > 0) logger('access_rechecked', rechecked);
    },
    'access:failed': ({ error, request }) => {
      sampler.write('access', 1, (unlogged) => {
        logger('access_failed', { error, request, unlogged });
      });
    },
  };
  for (const [event, { on }] of Object.entries(logEvents)) {
    if (on === null) continue;
    const write = (fields: Fields = {}): void => {
      const { attempt } = fields;
      if (typeof attempt !== 'number' || isWorthLogging(attempt)) logger(event as LogEvent, fields);
    };
    (lifecycle as EventEmitter).on(on, (special[on] ?? write) as (payload: Fields) => void);
  }
}

function described(fields: Fields): Fields {
  const entries = Object.entries(fields).map(([name, value]) => {
    if (value instanceof Error) return [name, describeError(value)];
    return [name, typeof value === 'string' ? scrub(value) : value];
  });
  return Object.fromEntries(entries) as Fields;
}

/** Bounds the lines of one kind: the first ones of each period are written, the others are counted in one line at its end. */
class LogSampler {
  readonly #periodMs: number;
  readonly #periods = new Map<string, { written: number; unlogged: number }>();

  constructor(periodMs: number) {
    this.#periodMs = periodMs;
  }

  /** Calls `write` with 0 now, or at the end of the period with the number of lines that were not written. */
  write(kind: string, maxLines: number, write: (unlogged: number) => void): void {
    const period = this.#periods.get(kind) ?? { written: 0, unlogged: 0 };
    if (!this.#periods.has(kind)) {
      this.#periods.set(kind, period);
      setTimeout(() => {
        this.#periods.delete(kind);
        if (period.unlogged > 0) write(period.unlogged);
      }, this.#periodMs).unref();
    }
    if (period.written < maxLines) {
      period.written += 1;
      write(0);
    } else period.unlogged += 1;
  }
}

/** `12:00:01 WARN reader failed attempt=1 error="ECONNREFUSED: ..."`; without the level if it is info. */
function humanLine(json: string): string {
  const entry = JSON.parse(json) as { time: string; level: string; event: string };
  const { time, level, event, ...fields } = entry;
  const clock = new Date(time).toTimeString().slice(0, 8);
  const words = Object.entries(fields).map(([name, value]) => `${name}=${fieldText(value)}`);
  const parts = [clock, level === 'info' ? '' : level.toUpperCase(), event.replaceAll('_', ' '), ...words];
  return `${parts.filter((part) => part !== '').join(' ')}\n`;
}

function fieldText(value: unknown): string {
  const text = typeof value === 'string' ? printable(value) : printableJson(JSON.stringify(value));
  return typeof value === 'string' && /[\s"=]/.test(text) ? JSON.stringify(text) : text;
}
