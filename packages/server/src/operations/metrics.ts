import type { IntervalHistogram } from 'node:perf_hooks';
import { CloseCode, resyncReasons } from '@flagcast/protocol';
import { Counter, Gauge, Histogram, Registry } from 'prom-client';
import type { Broadcaster } from '../broadcast/broadcaster.js';
import type { SessionPool } from '../postgres/session-pool.js';
import type { Presence } from '../connections/presence.js';
import type { ConnectionRegistry } from '../connections/connection-registry.js';
import type { HttpConnections } from '../connections/connection-limits.js';
import type { Freshness } from '../reader/freshness.js';
import type { Lifecycle } from '../lifecycle.js';
import type { EventReader } from '../reader/reader.js';
import { type MetricDefinition, metricTable } from './metric-table.js';

/** What the metrics read when they are scraped. */
export interface MetricsSources {
  readonly freshness: Pick<Freshness, 'notReady' | 'staleForMs'>;
  readonly connections: Pick<ConnectionRegistry, 'size' | 'paused'>;
  readonly presence: Pick<Presence, 'size'> | null;
  readonly httpConnections: Pick<HttpConnections, 'unauthenticated'>;
  readonly broadcaster: Pick<Broadcaster, 'channelSubscribers' | 'approvalsSubscribers' | 'lagMs'>;
  readonly reader: Pick<EventReader, 'rememberedEvents'>;
  readonly sessionPools: readonly Pick<SessionPool, 'purpose' | 'limit' | 'used' | 'waiting' | 'timeouts'>[];
  /** In nanoseconds. It is reset by each scrape. */
  readonly eventLoopDelay: IntervalHistogram;
}

/** The resolution of `eventLoopDelay`, in milliseconds: an idle process wakes up this often. */
export const eventLoopResolutionMs = 50;

/** The metrics of a server, in `registry`. No label names a user or a project. */
export function createMetrics(
  lifecycle: Lifecycle,
  sources: MetricsSources,
  registry = new Registry(),
): Registry {
  countLosses(lifecycle, registry);
  countReads(lifecycle, registry);
  countDeliveries(lifecycle, registry);
  countConnections(lifecycle, registry);
  countRelay(lifecycle, registry);
  showState(sources, registry);
  showSessions(sources, registry);
  return registry;
}

const constructors = { counter: Counter, gauge: Gauge, histogram: Histogram };
type MetricName = keyof typeof metricTable;
type Metric<Name extends MetricName> = InstanceType<
  (typeof constructors)[(typeof metricTable)[Name]['type']]
>;

/** Makes a metric of the table. `collect` sets its value when it is scraped. */
export function createMetric<Name extends MetricName>(
  registry: Registry,
  name: Name,
  collect: (metric: Metric<Name>) => void = () => undefined,
): Metric<Name> {
  const { type, help, labels = [], buckets = [] }: MetricDefinition = metricTable[name];
  return new constructors[type]({
    name,
    help,
    labelNames: [...labels],
    buckets: [...buckets],
    registers: [registry],
    collect() {
      collect(this as Metric<Name>);
    },
  }) as Metric<Name>;
}

/** Series that exist before the first event. */
function startAtZero(counter: Counter, label: string, values: readonly (string | number)[]): void {
  for (const value of values) counter.inc({ [label]: value }, 0);
}

/** Counters of events of the lifecycle. */
function countLosses(lifecycle: Lifecycle, registry: Registry): void {
  for (const [event, name] of [
    ['reader:page-failed', 'flagcast_read_pages_failed_total'],
    ['reader:failed', 'flagcast_read_failures_total'],
    ['reader:history-lost', 'flagcast_history_lost_total'],
    ['listener:failed', 'flagcast_listen_failures_total'],
    ['access:failed', 'flagcast_access_failures_total'],
    ['connection:paused', 'flagcast_pauses_total'],
    ['connection:drained', 'flagcast_pauses_drained_total'],
    ['relay:lost', 'flagcast_relay_losses_total'],
  ] as const) {
    const counter = createMetric(registry, name);
    lifecycle.on(event, () => counter.inc());
  }
}

function countReads(lifecycle: Lifecycle, registry: Registry): void {
  const reads = createMetric(registry, 'flagcast_reads_total');
  startAtZero(reads, 'trigger', ['poll', 'wake', 'follow_up']);
  const readSeconds = createMetric(registry, 'flagcast_read_seconds');
  const events = createMetric(registry, 'flagcast_events_total');
  const lastRead = createMetric(registry, 'flagcast_last_read_timestamp_seconds');
  lifecycle.on('reader:read', ({ trigger, fresh, durationMs }) => {
    reads.inc({ trigger });
    events.inc(fresh);
    readSeconds.observe(durationMs / 1_000);
    lastRead.setToCurrentTime();
  });
  // A follower of the relay learns only that the database was read.
  lifecycle.on('relay:heartbeat', ({ readAgoMs }) => {
    if (readAgoMs !== null) lastRead.set((Date.now() - readAgoMs) / 1_000);
  });
  const pruned = createMetric(registry, 'flagcast_log_rows_pruned_total');
  lifecycle.on('log:pruned', ({ rows }) => pruned.inc(rows));
  const listening = createMetric(registry, 'flagcast_listening');
  lifecycle.on('listener:listening', () => listening.set(1));
  lifecycle.on('listener:unavailable', () => listening.set(0));
  lifecycle.on('listener:failed', () => listening.set(0));
}

function countDeliveries(lifecycle: Lifecycle, registry: Registry): void {
  const deliveries = createMetric(registry, 'flagcast_deliveries_total');
  const batchEvents = createMetric(registry, 'flagcast_batch_events');
  const commitToSeen = createMetric(registry, 'flagcast_commit_to_seen_seconds');
  const seenToSent = createMetric(registry, 'flagcast_seen_to_sent_seconds');
  // Clocks differ and can be set back: never less than 0.
  const secondsBetween = (fromMs: number, toMs: number): number => Math.max(0, toMs - fromMs) / 1_000;
  lifecycle.on('batch:broadcast', (batch) => {
    deliveries.inc(batch.deliveries);
    batchEvents.observe(batch.events);
    seenToSent.observe(secondsBetween(batch.seenAtMs, batch.sentAtMs));
    if (batch.committed !== null) {
      commitToSeen.observe(secondsBetween(batch.committed.firstAtMs, batch.seenAtMs));
    }
  });
  const resumes = createMetric(registry, 'flagcast_resumes_total');
  startAtZero(resumes, 'source', ['buffer', 'log', 'database']);
  lifecycle.on('channel:resumed', ({ source }) => resumes.inc({ source }));
  const resyncs = createMetric(registry, 'flagcast_resyncs_total');
  startAtZero(resyncs, 'reason', resyncReasons);
  lifecycle.on('channel:resync', ({ reason }) => resyncs.inc({ reason }));
}

function countConnections(lifecycle: Lifecycle, registry: Registry): void {
  const refusedConnections = createMetric(registry, 'flagcast_connections_refused_total');
  lifecycle.on('connection:refused', ({ code }) => refusedConnections.inc({ code }));
  const refusedRequests = createMetric(registry, 'flagcast_requests_refused_total');
  lifecycle.on('request:refused', ({ code }) => refusedRequests.inc({ code }));
  const ownCodes = new Set<number>(Object.values(CloseCode));
  const closed = createMetric(registry, 'flagcast_connections_closed_total');
  startAtZero(closed, 'code', [...ownCodes]);
  lifecycle.on('connection:closed', ({ code }) => {
    // Clients can send any code from 3000 to 4999. It must not become a series each.
    closed.inc({ code: code < 3_000 || ownCodes.has(code) ? code : 'other' });
  });
}

function countRelay(lifecycle: Lifecycle, registry: Registry): void {
  const role = createMetric(registry, 'flagcast_relay_role');
  const setRole = (own: 'direct' | 'following' | 'leading' | null): void => {
    for (const each of ['direct', 'following', 'leading']) role.set({ role: each }, each === own ? 1 : 0);
  };
  setRole(null);
  for (const event of ['relay:connected', 'relay:lost', 'relay:direct', 'relay:leadership-lost'] as const) {
    lifecycle.on(event, () => setRole('direct'));
  }
  lifecycle.on('relay:following', () => setRole('following'));
  lifecycle.on('relay:elected', () => setRole('leading'));
  const batches = createMetric(registry, 'flagcast_relay_batches_total');
  startAtZero(batches, 'way', ['published', 'applied']);
  lifecycle.on('relay:published', () => batches.inc({ way: 'published' }));
  lifecycle.on('relay:applied', () => batches.inc({ way: 'applied' }));
  const fetched = createMetric(registry, 'flagcast_relay_fetched_messages_total');
  lifecycle.on('relay:fetched', ({ messages }) => fetched.inc(messages));
}

function showSessions({ sessionPools }: MetricsSources, registry: Registry): void {
  for (const [name, value] of [
    ['flagcast_database_sessions', 'used'],
    ['flagcast_database_sessions_limit', 'limit'],
    ['flagcast_database_sessions_waiting', 'waiting'],
  ] as const) {
    createMetric(registry, name, (gauge) => {
      for (const each of sessionPools) gauge.set({ purpose: each.purpose }, each[value]);
    });
  }
  createMetric(registry, 'flagcast_database_session_timeouts_total', (counter) => {
    counter.reset();
    for (const { purpose, timeouts } of sessionPools) counter.inc({ purpose }, timeouts);
  });
}

function showState(sources: MetricsSources, registry: Registry): void {
  const { freshness, connections, presence, httpConnections, broadcaster, reader, eventLoopDelay } = sources;
  createMetric(registry, 'flagcast_ready', (gauge) => gauge.set(freshness.notReady() === null ? 1 : 0));
  createMetric(registry, 'flagcast_stale_seconds', (gauge) => gauge.set(freshness.staleForMs / 1_000));
  createMetric(registry, 'flagcast_connections', (gauge) => gauge.set(connections.size));
  createMetric(registry, 'flagcast_connections_unauthenticated', (gauge) =>
    gauge.set(httpConnections.unauthenticated),
  );
  createMetric(registry, 'flagcast_connections_paused', (gauge) => gauge.set(connections.paused.size));
  createMetric(registry, 'flagcast_channel_connections', (histogram) => {
    histogram.zero({});
    for (const connections of broadcaster.channelSubscribers()) histogram.observe(connections);
  });
  createMetric(registry, 'flagcast_approvals_connections', (gauge) =>
    gauge.set(broadcaster.approvalsSubscribers),
  );
  createMetric(registry, 'flagcast_presence_views', (gauge) => gauge.set(presence?.size ?? 0));
  createMetric(registry, 'flagcast_remembered_events', (gauge) => gauge.set(reader.rememberedEvents));
  createMetric(registry, 'flagcast_delivery_lag_seconds', (gauge) => gauge.set(broadcaster.lagMs / 1_000));
  createMetric(registry, 'flagcast_event_loop_delay_seconds', (gauge) => {
    // The histogram includes the interval of its timer.
    const secondsOf = (nanoseconds: number): number =>
      Math.max(0, nanoseconds / 1e9 - eventLoopResolutionMs / 1_000);
    const { count, max } = eventLoopDelay;
    gauge.set({ statistic: 'p99' }, secondsOf(count === 0 ? 0 : eventLoopDelay.percentile(99)));
    gauge.set({ statistic: 'max' }, secondsOf(count === 0 ? 0 : max));
    eventLoopDelay.reset();
  });
  createMetric(registry, 'flagcast_process_resident_bytes', (gauge) => gauge.set(process.memoryUsage.rss()));
  createMetric(registry, 'flagcast_process_cpu_seconds_total', (counter) => {
    counter.reset();
    const { user, system } = process.cpuUsage();
    counter.inc((user + system) / 1e6);
  });
}
