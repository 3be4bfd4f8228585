/** What a metric is; its name is the key of the table. */
export interface MetricDefinition {
  readonly type: 'counter' | 'gauge' | 'histogram';
  /** What one of it is: `seconds`, `bytes`, or what is counted. */
  readonly unit: string;
  readonly help: string;
  /** Each has few values, none of which a user or a row can choose. */
  readonly labels?: readonly string[];
  /** The upper bounds of a histogram's buckets, in its unit. */
  readonly buckets?: readonly number[];
}

const readBuckets = [0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5];
const delayBuckets = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60];
const countBuckets = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000];

/** Every metric of the server, defined here and nowhere else; docs/OPERATIONS.md has the same list. */
export const metricTable = {
  flagcast_ready: {
    type: 'gauge',
    unit: 'yes or no',
    help: 'Whether /readyz answers 200: 1 or 0.',
  },
  flagcast_reads_total: {
    type: 'counter',
    unit: 'reads',
    help: 'Reads of the event log, by what caused them: poll, wake (a hint), or follow_up (after a hint or a full page).',
    labels: ['trigger'],
  },
  flagcast_read_seconds: {
    type: 'histogram',
    unit: 'seconds',
    help: 'How long a read took.',
    buckets: readBuckets,
  },
  flagcast_read_failures_total: {
    type: 'counter',
    unit: 'attempts',
    help: 'Attempts to read or to reconnect that failed.',
  },
  flagcast_last_read_timestamp_seconds: {
    type: 'gauge',
    unit: 'seconds since the epoch',
    help: 'When the last read succeeded, in seconds since the epoch.',
  },
  flagcast_events_total: {
    type: 'counter',
    unit: 'events',
    help: 'Events read from the database, each counted once.',
  },
  flagcast_batch_events: {
    type: 'histogram',
    unit: 'events',
    help: 'How many events a read brought, where it brought any.',
    buckets: countBuckets,
  },
  flagcast_commit_to_seen_seconds: {
    type: 'histogram',
    unit: 'seconds',
    help: 'From the commit of the first event of a batch until it was read, by the clocks of the database and of this machine; only where the database records commit times.',
    buckets: delayBuckets,
  },
  flagcast_seen_to_sent_seconds: {
    type: 'histogram',
    unit: 'seconds',
    help: 'From the arrival of a batch until all connections of its channels had been handed it.',
    buckets: delayBuckets,
  },
  flagcast_delivery_lag_seconds: {
    type: 'gauge',
    unit: 'seconds',
    help: 'For how long the oldest batch that not all have been handed yet has been under way; 0 where there is none.',
  },
  flagcast_deliveries_total: {
    type: 'counter',
    unit: 'events times connections',
    help: 'Events handed to subscribed connections.',
  },
  flagcast_stale_seconds: {
    type: 'gauge',
    unit: 'seconds',
    help: 'For how long this server has not been reading the database, so that clients show a stale state; 0 while it is fresh.',
  },
  flagcast_read_pages_failed_total: {
    type: 'counter',
    unit: 'reads',
    help: 'Reads that failed because of what a row holds, or because they took too long, and were repeated with fewer rows.',
  },
  flagcast_log_rows_pruned_total: {
    type: 'counter',
    unit: 'rows',
    help: 'Rows of the event log that were deleted because they are older than FLAGCAST_LOG_RETENTION.',
  },
  flagcast_remembered_events: {
    type: 'gauge',
    unit: 'events',
    help: 'Delivered events that are remembered because a crash of the database may take them back.',
  },
  flagcast_history_lost_total: {
    type: 'counter',
    unit: 'times',
    help: 'How often the database turned out to have another history (a failover, a restored backup) or another view: everybody was told to begin anew.',
  },
  flagcast_listening: {
    type: 'gauge',
    unit: 'yes or no',
    help: 'Whether LISTEN works, so that events need not wait for the poll: 1 or 0.',
  },
  flagcast_listen_failures_total: {
    type: 'counter',
    unit: 'attempts',
    help: 'Losses of the LISTEN connection and failed attempts to renew it.',
  },
  flagcast_connections: {
    type: 'gauge',
    unit: 'connections',
    help: 'Open connections.',
  },
  flagcast_channel_connections: {
    type: 'histogram',
    unit: 'connections',
    help: 'How many channels have up to so many connections now (not since the start: take no rate of it); channels without any do not count.',
    buckets: countBuckets,
  },
  flagcast_connections_unauthenticated: {
    type: 'gauge',
    unit: 'connections',
    help: 'Open TCP connections that have not authenticated: without a request, within a handshake, or of pages and checks that need no token.',
  },
  flagcast_connections_paused: {
    type: 'gauge',
    unit: 'connections',
    help: 'Open connections that get nothing now because they do not read.',
  },
  flagcast_pauses_total: {
    type: 'counter',
    unit: 'times',
    help: 'How often a connection was paused because it did not read what it was sent.',
  },
  flagcast_pauses_drained_total: {
    type: 'counter',
    unit: 'times',
    help: 'How often a paused connection read on, and was brought what it had missed.',
  },
  flagcast_connections_closed_total: {
    type: 'counter',
    unit: 'connections',
    help: 'Connections that ended, by close code; "other" for codes that peers made up.',
    labels: ['code'],
  },
  flagcast_connections_refused_total: {
    type: 'counter',
    unit: 'connections',
    help: 'WebSockets and TCP connections that were refused before they had authenticated, by reason.',
    labels: ['code'],
  },
  flagcast_requests_refused_total: {
    type: 'counter',
    unit: 'requests',
    help: 'HTTP requests, those for streams among them, that were refused at the authorizer, by reason.',
    labels: ['code'],
  },
  flagcast_access_failures_total: {
    type: 'counter',
    unit: 'questions',
    help: 'Questions about users, rights or data that the database, or the host, did not answer.',
  },
  flagcast_resumes_total: {
    type: 'counter',
    unit: 'channels',
    help: 'Channels that a client came back to and was brought what it had missed, by where that came from (ring, log of the relay, or database).',
    labels: ['source'],
  },
  flagcast_resyncs_total: {
    type: 'counter',
    unit: 'channels',
    help: 'Channels of which a client was told to take a new snapshot, by reason.',
    labels: ['reason'],
  },
  flagcast_relay_role: {
    type: 'gauge',
    unit: 'yes or no',
    help: 'What this server does among those that share a relay: reads for all (leading), follows, or reads for itself (direct): 1 for that one; all 0 without a relay.',
    labels: ['role'],
  },
  flagcast_relay_batches_total: {
    type: 'counter',
    unit: 'batches',
    help: 'Batches with events that went to the relay (published), or came from it (applied).',
    labels: ['way'],
  },
  flagcast_relay_fetched_messages_total: {
    type: 'counter',
    unit: 'messages',
    help: 'Messages of the relay that had not come by themselves and were fetched from its log.',
  },
  flagcast_relay_losses_total: {
    type: 'counter',
    unit: 'times',
    help: 'How often no server of NATS could be reached any more.',
  },
  flagcast_database_sessions: {
    type: 'gauge',
    unit: 'sessions',
    help: 'Sessions of the database that are open, or may still be, by what they are for.',
    labels: ['purpose'],
  },
  flagcast_database_sessions_limit: {
    type: 'gauge',
    unit: 'sessions',
    help: 'How many sessions of the database there may be, by what they are for: together FLAGCAST_DB_CONNECTIONS.',
    labels: ['purpose'],
  },
  flagcast_database_sessions_waiting: {
    type: 'gauge',
    unit: 'requests',
    help: 'How many wait for a session of the database, by what it is for.',
    labels: ['purpose'],
  },
  flagcast_database_session_timeouts_total: {
    type: 'counter',
    unit: 'requests',
    help: 'How often no session of the database was free in time: mostly requests that were answered with 503.',
    labels: ['purpose'],
  },
  flagcast_event_loop_delay_seconds: {
    type: 'gauge',
    unit: 'seconds',
    help: 'By how much the event loop was late since this was asked for last: in 99 of 100 cases, and at the most.',
    labels: ['statistic'],
  },
  flagcast_process_cpu_seconds_total: {
    type: 'counter',
    unit: 'seconds',
    help: 'Processor time of this process, user and system.',
  },
  flagcast_process_resident_bytes: {
    type: 'gauge',
    unit: 'bytes',
    help: 'Resident memory of this process.',
  },
  flagcast_workers_ended_total: {
    type: 'counter',
    unit: 'processes',
    help: 'Workers that ended without being asked to, and were replaced; only with more than one worker.',
  },
} as const satisfies Record<string, MetricDefinition>;

type Names<Type> = {
  [Name in keyof typeof metricTable]: (typeof metricTable)[Name]['type'] extends Type ? Name : never;
}[keyof typeof metricTable];

export type CounterName = Names<'counter'>;
export type GaugeName = Names<'gauge'>;
export type HistogramName = Names<'histogram'>;
