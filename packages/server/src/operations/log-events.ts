import type { LifecycleEvents } from '../lifecycle.js';

interface LogEventDefinition {
  readonly level: 'info' | 'warn' | 'error';
  /** The event of the lifecycle that is logged. Without it, the command logs the event itself. */
  readonly on?: keyof LifecycleEvents;
  /** What happened. */
  readonly when: string;
}

/** Every line of the log, by its `event`. Names are stable. docs/reference.md is generated from this table. */
export const logEvents = {
  server_listening: { level: 'info', when: 'the server accepts connections at `url`' },
  server_stopping: { level: 'info', when: 'a signal asked the server to stop' },
  server_stopped: { level: 'info', when: 'the server has stopped' },
  server_start_abandoned: { level: 'warn', when: 'the server was asked to stop while it was starting' },
  server_failed: { level: 'error', when: 'the listening socket failed' },
  server_part_not_stopped: { level: 'error', when: 'a `part` did not stop in time, or failed' },
  server_stop_timed_out: { level: 'error', when: 'the server did not stop within 9.5 s; the process exits' },
  database_waiting: { level: 'warn', when: 'the database does not answer; the server retries' },
  doctor_warning: { level: 'warn', when: 'a `finding` of `flagcast doctor` at the start, with its `fix`' },
  socket_writer_chosen: {
    level: 'info',
    on: 'socket-writer:chosen',
    when: 'how WebSockets are written to: by the `writer` io_uring, or plain, with the `reason`',
  },
  socket_writer_fallback: {
    level: 'warn',
    on: 'socket-writer:fallback',
    when: 'a completion of io_uring was missing; from now on each connection is written to by itself',
  },
  reader_started: {
    level: 'info',
    on: 'reader:started',
    when: 'events are read from `source`, with this `guarantee`',
  },
  reader_failed: { level: 'warn', on: 'reader:failed', when: 'a read failed; it is retried in `retryInMs`' },
  reader_recovered: { level: 'info', on: 'reader:recovered', when: 'reads succeed again; no event was lost' },
  reader_page_failed: {
    level: 'warn',
    on: 'reader:page-failed',
    when: 'a page has unreadable rows; it is read again with `rows` rows, without states if `readsState` is false',
  },
  reader_history_lost: {
    level: 'error',
    on: 'reader:history-lost',
    when: 'the database has another history, or another source of events; clients take a new snapshot',
  },
  freshness_changed: {
    level: 'error',
    on: 'freshness:changed',
    when: 'the server is stale (`reason`, `problem`, `since`); level info: it is fresh again',
  },
  log_prune_failed: {
    level: 'warn',
    on: 'log:prune-failed',
    when: 'old rows of the event log could not be deleted; retried after a minute',
  },
  listener_listening: { level: 'info', on: 'listener:listening', when: 'LISTEN works: events come at once' },
  listener_failed: {
    level: 'warn',
    on: 'listener:failed',
    when: 'the LISTEN session was lost or could not be opened; events come with the poll',
  },
  listener_unavailable: {
    level: 'warn',
    on: 'listener:unavailable',
    when: 'a pooler or a replica passes no notifications; with the fix',
  },
  relay_connected: { level: 'info', on: 'relay:connected', when: 'the server is connected to NATS' },
  relay_lost: {
    level: 'warn',
    on: 'relay:lost',
    when: 'no NATS server answers; every server reads the database',
  },
  relay_failed: {
    level: 'warn',
    on: 'relay:failed',
    when: 'the stream of NATS cannot be used; retried in `retryInMs`',
  },
  relay_refused: {
    level: 'error',
    on: 'relay:refused',
    when: 'the relay cannot be used with this database; the server reads the database',
  },
  relay_elected: {
    level: 'info',
    on: 'relay:elected',
    when: 'this server reads the database for all servers',
  },
  relay_leadership_lost: {
    level: 'warn',
    on: 'relay:leadership-lost',
    when: 'this server no longer reads the database for all servers',
  },
  relay_following: { level: 'info', on: 'relay:following', when: 'this server follows the relay leader' },
  relay_direct: { level: 'warn', on: 'relay:direct', when: 'this server reads the database itself again' },
  connection_opened: { level: 'info', on: 'connection:opened', when: 'a client connected' },
  connection_closed: {
    level: 'info',
    on: 'connection:closed',
    when: 'a connection ended, with its close `code` and `reason`',
  },
  connection_refused: {
    level: 'info',
    on: 'connection:refused',
    when: 'a connection was refused; 5 lines per `code` in 10 s, then one with the number of others (`unlogged`)',
  },
  channel_resync: {
    level: 'info',
    on: 'channel:resync',
    when: 'a client has to take a new snapshot, for this `reason`',
  },
  access_rechecked: {
    level: 'info',
    on: 'access:rechecked',
    when: 'connections were `closed` because permissions have changed',
  },
  access_failed: {
    level: 'warn',
    on: 'access:failed',
    when: 'a lookup in the database or the host failed, for an HTTP `request` or another one; once in 10 s',
  },
  access_rows_ignored: {
    level: 'warn',
    on: 'access:rows-ignored',
    when: "the host's list of channels has rows that are not valid",
  },
  traces_started: { level: 'info', when: 'traces are sent to the OpenTelemetry collector' },
  traces_failed: { level: 'warn', when: 'OpenTelemetry reports an error, such as spans that were not sent' },
  traces_not_sent: { level: 'warn', when: 'the last spans could not be sent when the server stopped' },
  worker_ready: { level: 'info', when: 'a worker serves' },
  worker_ended: { level: 'error', when: 'a worker ended unexpectedly; it is replaced in `replacedInMs`' },
  worker_killed: { level: 'error', when: 'a worker did not stop in time' },
  workers_renewing: { level: 'info', when: 'SIGHUP: the workers are replaced one after another' },
  workers_renewed: { level: 'info', when: 'all workers were replaced' },
  workers_renewal_failed: { level: 'error', when: 'a new worker was not ready; the others stay' },
  embedded_database_starting: { level: 'info', when: 'the embedded PostgreSQL is starting' },
  embedded_database_started: { level: 'info', when: 'the embedded PostgreSQL runs' },
  embedded_database_stopped: { level: 'info', when: 'the embedded PostgreSQL was stopped' },
  embedded_database_ended: { level: 'error', when: 'the embedded PostgreSQL ended unexpectedly' },
  embedded_database_restarted: { level: 'info', when: 'the embedded PostgreSQL was restarted' },
  embedded_database_restart_failed: {
    level: 'error',
    when: 'the restart failed; it is retried in `retryInMs`',
  },
  traffic: { level: 'info', when: '`--traffic`: the `action` of a simulated user' },
} as const satisfies Record<string, LogEventDefinition>;

export type LogEvent = keyof typeof logEvents;
