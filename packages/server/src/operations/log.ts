import type { EventEmitter } from 'node:events';
import { destination, pino, stdTimeFunctions } from 'pino';
import { describeError, printable, printableJson, scrub } from '../describe.js';
import type { Lifecycle, LifecycleEvents } from '../lifecycle.js';
import { isWorthLogging } from '../retry.js';

type LifecycleEvent = keyof LifecycleEvents;

/** `on`: the event of the lifecycle that is logged. Without it, the command logs the event itself. */
const info = (when: string, on: LifecycleEvent | null = null) => ({ level: 'info', when, on }) as const;
const warn = (when: string, on: LifecycleEvent | null = null) => ({ level: 'warn', when, on }) as const;
const error = (when: string, on: LifecycleEvent | null = null) => ({ level: 'error', when, on }) as const;

/** Every line of the log, by its `event`. Names are stable. docs/reference.md is generated from this table. */
export const logEvents = {
  server_listening: info('the server accepts connections at `url`; `console` is served, or why not'),
  server_stopping: info('a signal asked the server to stop'),
  server_stopped: info('the server has stopped'),
  server_start_abandoned: warn('the server was asked to stop while it was starting'),
  server_failed: error('the listening socket failed'),
  server_part_not_stopped: error('a `part` did not stop in time, or failed'),
  server_stop_timed_out: error('the server did not stop within 9.5 s; the process exits'),
  database_waiting: warn('the database does not answer; the server retries'),
  doctor_warning: warn('a `finding` of `flagcast doctor` at the start, with its `fix`'),
  socket_writer_chosen: info(
    'how WebSockets are written to: by the `writer` io_uring, or plain, with the `reason`',
    'socket-writer:chosen',
  ),
  socket_writer_fallback: warn(
    'a completion of io_uring was missing; from now on each connection is written to separately',
    'socket-writer:fallback',
  ),
  reader_started: info('events are read from `source`, with this `guarantee`', 'reader:started'),
  reader_failed: warn('a read failed; it is retried in `retryInMs`', 'reader:failed'),
  reader_recovered: info('reads succeed again; no event was lost', 'reader:recovered'),
  reader_page_failed: warn(
    'a page has unreadable rows; it is read again with `rows` rows, without states if `readsState` is false',
    'reader:page-failed',
  ),
  reader_history_lost: error(
    'the database has another history, or another source of events; clients take a new snapshot',
    'reader:history-lost',
  ),
  freshness_changed: error(
    'the server is stale (`reason`, `problem`, `since`); level info: it is fresh again',
    'freshness:changed',
  ),
  pool_ended: error(
    'the host has ended its `pg.Pool`, so requests and permission checks fail; with the fix',
    'pool:ended',
  ),
  log_prune_failed: warn(
    'old rows of the event log could not be deleted; retried after a minute',
    'log:prune-failed',
  ),
  listener_listening: info('LISTEN works: events come at once', 'listener:listening'),
  listener_failed: warn(
    'the LISTEN session was lost or could not be opened; events come with the poll',
    'listener:failed',
  ),
  listener_unavailable: warn(
    'a pooler or a replica passes no notifications; with the fix',
    'listener:unavailable',
  ),
  relay_connected: info('the server is connected to NATS', 'relay:connected'),
  relay_lost: warn('no NATS server answers; every server reads the database', 'relay:lost'),
  relay_failed: warn('the stream of NATS cannot be used; retried in `retryInMs`', 'relay:failed'),
  relay_refused: error(
    'the relay cannot be used with this database; the server reads the database',
    'relay:refused',
  ),
  relay_elected: info('this server reads the database for all servers', 'relay:elected'),
  relay_leadership_lost: warn(
    'this server no longer reads the database for all servers',
    'relay:leadership-lost',
  ),
  relay_following: info('this server follows the relay leader', 'relay:following'),
  relay_direct: warn('this server reads the database itself again', 'relay:direct'),
  presence_message_ignored: warn(
    'a message of another server about presence cannot be decoded and is ignored; logged once',
    'presence:message-ignored',
  ),
  connection_opened: info('a client connected', 'connection:opened'),
  connection_closed: info('a connection ended, with its close `code` and `reason`', 'connection:closed'),
  connection_refused: info(
    'a connection was refused; 5 lines per `code` in 10 s, then one with the number of others (`unlogged`)',
    'connection:refused',
  ),
  channel_resync: info('a client has to take a new snapshot, for this `reason`', 'channel:resync'),
  access_rechecked: info('connections were `closed` because permissions have changed', 'access:rechecked'),
  access_failed: warn(
    'a lookup in the database or the host failed, for an HTTP `request` or another one; once in 10 s',
    'access:failed',
  ),
  access_rows_ignored: warn("the host's list of channels has rows that are not valid", 'access:rows-ignored'),
  traces_started: info('traces are sent to the OpenTelemetry collector'),
  traces_failed: warn('OpenTelemetry reports an error, such as spans that were not sent'),
  traces_not_sent: warn('the last spans could not be sent when the server stopped'),
  worker_ready: info('a worker serves'),
  worker_ended: error('a worker ended unexpectedly; it is replaced in `replacedInMs`'),
  worker_killed: error('a worker did not stop in time'),
  workers_renewing: info('SIGHUP: the workers are replaced one after another'),
  workers_renewed: info('all workers were replaced'),
  workers_renewal_failed: error('a new worker was not ready; the others stay'),
  embedded_database_starting: info('the embedded PostgreSQL is starting'),
  embedded_database_started: info('the embedded PostgreSQL runs'),
  embedded_database_stopped: info('the embedded PostgreSQL was stopped'),
  embedded_database_ended: error('the embedded PostgreSQL ended unexpectedly'),
  embedded_database_restarted: info('the embedded PostgreSQL was restarted'),
  embedded_database_restart_failed: error('the restart failed; it is retried in `retryInMs`'),
  demo_ready: info('the `users` of the demo can sign in at the `url`'),
  traffic: info('`--traffic`: the `action` of a simulated user'),
} as const;

type LogEvent = keyof typeof logEvents;

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
