import type { LifecycleEvents } from '../lifecycle.js';

type Lifecycle = keyof LifecycleEvents;

/** `on`: the event of the lifecycle that is logged. Without it, the command logs the event itself. */
const info = (when: string, on: Lifecycle | null = null) => ({ level: 'info', when, on }) as const;
const warn = (when: string, on: Lifecycle | null = null) => ({ level: 'warn', when, on }) as const;
const error = (when: string, on: Lifecycle | null = null) => ({ level: 'error', when, on }) as const;

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

export type LogEvent = keyof typeof logEvents;
