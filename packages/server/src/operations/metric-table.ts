/** A metric. Its name is the key of the table. */
export interface MetricDefinition {
  readonly type: 'counter' | 'gauge' | 'histogram';
  /** `seconds`, `bytes`, or what is counted. */
  readonly unit: string;
  readonly help: string;
  /** Each has few values. No user and no row can choose one. */
  readonly labels?: readonly string[];
  /** The upper bounds of the buckets, in the unit. */
  readonly buckets?: readonly number[];
}

const counter = (unit: string, help: string, ...labels: string[]) =>
  ({ type: 'counter', unit, help, labels }) as const;
const gauge = (unit: string, help: string, ...labels: string[]) =>
  ({ type: 'gauge', unit, help, labels }) as const;
const histogram = (unit: string, help: string, buckets: readonly number[]) =>
  ({ type: 'histogram', unit, help, buckets }) as const;

const readBuckets = [0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5];
const delayBuckets = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60];
const countBuckets = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000];

/** Every metric of the server. docs/reference.md is generated from this table. */
export const metricTable = {
  flagcast_ready: gauge('yes or no', '1 if /readyz answers 200, else 0.'),
  flagcast_reads_total: counter(
    'reads',
    'Reads of the event log, by trigger: poll, wake (a notification) or follow_up (after a notification or a full page).',
    'trigger',
  ),
  flagcast_read_seconds: histogram('seconds', 'Duration of reads.', readBuckets),
  flagcast_read_failures_total: counter('attempts', 'Failed attempts to read or to reconnect.'),
  flagcast_last_read_timestamp_seconds: gauge('seconds since the epoch', 'Time of the last successful read.'),
  flagcast_events_total: counter('events', 'Events read from the database, each counted once.'),
  flagcast_batch_events: histogram('events', 'Events per read, of reads with events.', countBuckets),
  flagcast_commit_to_seen_seconds: histogram(
    'seconds',
    'From the commit of the first event of a batch to its read, by the clocks of both machines; needs track_commit_timestamp.',
    delayBuckets,
  ),
  flagcast_seen_to_sent_seconds: histogram(
    'seconds',
    'From the read of a batch until it was handed to all connections of its channels.',
    delayBuckets,
  ),
  flagcast_delivery_lag_seconds: gauge(
    'seconds',
    'Age of the oldest batch that was not handed to all connections yet; 0 if there is none.',
  ),
  flagcast_deliveries_total: counter('events times connections', 'Events handed to subscribed connections.'),
  flagcast_stale_seconds: gauge('seconds', 'How long this server has been stale; 0 while it is fresh.'),
  flagcast_read_pages_failed_total: counter(
    'reads',
    'Reads that failed because of a row or took too long, and were repeated with fewer rows.',
  ),
  flagcast_log_rows_pruned_total: counter(
    'rows',
    'Rows of the event log that were deleted because they are older than FLAGCAST_LOG_RETENTION.',
  ),
  flagcast_remembered_events: gauge(
    'events',
    'Delivered events that a crash of the database could still undo.',
  ),
  flagcast_history_lost_total: counter(
    'times',
    'How often the database had another history (a failover, a restored backup) or another view; all clients started again.',
  ),
  flagcast_listening: gauge(
    'yes or no',
    '1 if LISTEN works, so that events do not wait for the poll, else 0.',
  ),
  flagcast_listen_failures_total: counter(
    'attempts',
    'Lost LISTEN sessions and failed attempts to open one.',
  ),
  flagcast_connections: gauge('connections', 'Open connections.'),
  flagcast_channel_connections: histogram(
    'connections',
    'Channels by their present number of connections; not cumulative over time, so take no rate. Channels without connections do not count.',
    countBuckets,
  ),
  flagcast_approvals_connections: gauge(
    'connections',
    'Open connections with the approvals feed, which is no channel.',
  ),
  flagcast_presence_views: gauge('views', 'Features and requests that users have open, as clients announce.'),
  flagcast_connections_unauthenticated: gauge(
    'connections',
    'Open TCP connections that have not authenticated: idle, within a handshake, or for pages and checks without a token.',
  ),
  flagcast_connections_paused: gauge(
    'connections',
    'Open connections that are paused because they do not read.',
  ),
  flagcast_pauses_total: counter('times', 'How often a connection was paused because it did not read.'),
  flagcast_pauses_drained_total: counter(
    'times',
    'How often a paused connection read again and received the missed events.',
  ),
  flagcast_connections_closed_total: counter(
    'connections',
    'Closed connections by close code; other for codes that clients invented.',
    'code',
  ),
  flagcast_connections_refused_total: counter(
    'connections',
    'WebSocket and TCP connections that were refused before authentication, by reason.',
    'code',
  ),
  flagcast_requests_refused_total: counter(
    'requests',
    'HTTP requests, including event streams, that were not authorized, by reason.',
    'code',
  ),
  flagcast_access_failures_total: counter(
    'lookups',
    'Lookups of users, permissions or data that the database or the host did not answer.',
  ),
  flagcast_resumes_total: counter(
    'channels',
    'Channels that a client resumed, by the source of the missed events: buffer (in memory), log (of the relay) or database.',
    'source',
  ),
  flagcast_resyncs_total: counter(
    'channels',
    'Channels that clients had to load again, by reason.',
    'reason',
  ),
  flagcast_relay_role: gauge(
    'yes or no',
    '1 for the role of this server: leading (reads for all), following or direct (reads for itself); all 0 without a relay.',
    'role',
  ),
  flagcast_relay_batches_total: counter(
    'batches',
    'Batches with events that were published to the relay, or applied from it.',
    'way',
  ),
  flagcast_relay_fetched_messages_total: counter(
    'messages',
    'Messages of the relay that were not pushed and had to be fetched from its log.',
  ),
  flagcast_relay_losses_total: counter('times', 'How often the last NATS server became unreachable.'),
  flagcast_database_sessions: gauge('sessions', 'Sessions of PostgreSQL that are or may be open.', 'purpose'),
  flagcast_database_sessions_limit: gauge(
    'sessions',
    'The maximum of sessions of PostgreSQL; together at most FLAGCAST_DB_CONNECTIONS.',
    'purpose',
  ),
  flagcast_database_sessions_waiting: gauge(
    'requests',
    'Requests that wait for a session of PostgreSQL.',
    'purpose',
  ),
  flagcast_database_session_timeouts_total: counter(
    'requests',
    'How often no session of PostgreSQL was free in time; most of these requests were answered with 503.',
    'purpose',
  ),
  flagcast_event_loop_delay_seconds: gauge(
    'seconds',
    'Delay of the event loop since the previous scrape: the 99th percentile (p99) and the maximum (max).',
    'statistic',
  ),
  flagcast_process_cpu_seconds_total: counter('seconds', 'Processor time of this process, user and system.'),
  flagcast_process_resident_bytes: gauge('bytes', 'Resident memory of this process.'),
  flagcast_workers_ended_total: counter(
    'processes',
    'Workers that ended unexpectedly and were replaced; only with more than one worker.',
  ),
} as const satisfies Record<string, MetricDefinition>;
