import type { IntervalHistogram } from 'node:perf_hooks';
import { CloseCode, resyncReasons } from '@flagcast/protocol';
import { Counter, Gauge, Histogram, Registry } from 'prom-client';
import type { Broadcaster } from '../broadcast/broadcaster.js';
import type { SessionPool } from '../postgres/session-pool.js';
import type { ConnectionRegistry } from '../connections/connection-registry.js';
import type { UnauthenticatedConnections } from '../transport/unauthenticated-connections.js';
import type { Freshness } from '../reader/freshness.js';
import type { Lifecycle } from '../lifecycle.js';
import type { BatchSource } from '../reader/batch-source.js';
import {
  type CounterName,
  type GaugeName,
  type HistogramName,
  type MetricDefinition,
  metricTable,
} from './metric-table.js';

/** What the metrics ask for when they are scraped. */
export interface MetricsSources {
  readonly freshness: Pick<Freshness, 'notReady' | 'staleForMs'>;
  readonly peers: Pick<ConnectionRegistry, 'count'>;
  readonly unauthenticated: Pick<UnauthenticatedConnections, 'count'>;
  readonly broadcaster: Pick<Broadcaster, 'subscriberCounts' | 'lagMs'>;
  readonly reader: Pick<BatchSource, 'rememberedEvents'>;
  readonly sessionPools: readonly Pick<SessionPool, 'purpose' | 'limit' | 'used' | 'waiting' | 'timeouts'>[];
  /** By how much the event loop was late, in nanoseconds; is reset when it was told. */
  readonly eventLoopDelay: IntervalHistogram;
}

/** How often the event loop is looked at, in milliseconds: an idle process wakes up for it. */
export const eventLoopResolutionMs = 50;

/** Makes a counter of the table. */
export function createCounter(registry: Registry, name: CounterName): Counter {
  return new Counter(configured(registry, name));
}

function createGauge(registry: Registry, name: GaugeName, collect?: (gauge: Gauge) => void): Gauge {
  return new Gauge({
    ...configured(registry, name),
    ...(collect === undefined
      ? {}
      : {
          collect() {
            collect(this);
          },
        }),
  });
}

function createHistogram(
  registry: Registry,
  name: HistogramName,
  collect?: (histogram: Histogram) => void,
): Histogram {
  return new Histogram({
    ...configured(registry, name),
    buckets: [...metricTable[name].buckets],
    ...(collect === undefined
      ? {}
      : {
          collect() {
            collect(this);
          },
        }),
  });
}

function configured(
  registry: Registry,
  name: keyof typeof metricTable,
): { name: string; help: string; labelNames: string[]; registers: Registry[] } {
  const { help, labels = [] }: MetricDefinition = metricTable[name];
  return { name, help, labelNames: [...labels], registers: [registry] };
}

/** Prometheus metrics: subscribers of the lifecycle, in `registry` (default: one of their own); no label names a user or a project. */
export function createMetrics(
  lifecycle: Lifecycle,
  sources: MetricsSources,
  registry = new Registry(),
): Registry {
  countReads(lifecycle, registry);
  countDeliveries(lifecycle, registry);
  countConnections(lifecycle, registry);
  countRelay(lifecycle, registry);
  showState(sources, registry);
  showSessions(sources, registry);
  return registry;
}

function countReads(lifecycle: Lifecycle, registry: Registry): void {
  const reads = createCounter(registry, 'flagcast_reads_total');
  for (const trigger of ['poll', 'wake', 'follow_up']) reads.inc({ trigger }, 0);
  const readSeconds = createHistogram(registry, 'flagcast_read_seconds');
  const events = createCounter(registry, 'flagcast_events_total');
  const lastRead = createGauge(registry, 'flagcast_last_read_timestamp_seconds');
  lifecycle.on('reader:read', ({ trigger, fresh, durationMs }) => {
    reads.inc({ trigger });
    events.inc(fresh);
    readSeconds.observe(durationMs / 1_000);
    lastRead.setToCurrentTime();
  });
  // A server that follows another one only learns that the database is read.
  lifecycle.on('relay:heard', ({ readAgoMs }) => lastRead.set((Date.now() - readAgoMs) / 1_000));
  const failedPages = createCounter(registry, 'flagcast_read_pages_failed_total');
  lifecycle.on('reader:page-failed', () => failedPages.inc());
  const pruned = createCounter(registry, 'flagcast_log_rows_pruned_total');
  lifecycle.on('log:pruned', ({ rows }) => pruned.inc(rows));
  const readFailures = createCounter(registry, 'flagcast_read_failures_total');
  lifecycle.on('reader:failed', () => readFailures.inc());
  const historyLost = createCounter(registry, 'flagcast_history_lost_total');
  lifecycle.on('reader:history-lost', () => historyLost.inc());
  const listening = createGauge(registry, 'flagcast_listening');
  const listenFailures = createCounter(registry, 'flagcast_listen_failures_total');
  lifecycle.on('listener:listening', () => listening.set(1));
  lifecycle.on('listener:unavailable', () => listening.set(0));
  lifecycle.on('listener:failed', () => {
    listening.set(0);
    listenFailures.inc();
  });
}

function countDeliveries(lifecycle: Lifecycle, registry: Registry): void {
  const deliveries = createCounter(registry, 'flagcast_deliveries_total');
  const batchEvents = createHistogram(registry, 'flagcast_batch_events');
  const commitToSeen = createHistogram(registry, 'flagcast_commit_to_seen_seconds');
  const seenToSent = createHistogram(registry, 'flagcast_seen_to_sent_seconds');
  lifecycle.on('batch:broadcast', ({ events, deliveries: delivered, committed, seenAtMs, sentAtMs }) => {
    deliveries.inc(delivered);
    batchEvents.observe(events);
    seenToSent.observe(secondsBetween(seenAtMs, sentAtMs));
    if (committed !== null) commitToSeen.observe(secondsBetween(committed.firstAtMs, seenAtMs));
  });
  const resumes = createCounter(registry, 'flagcast_resumes_total');
  for (const source of ['ring', 'log', 'database']) resumes.inc({ source }, 0);
  lifecycle.on('channel:resumed', ({ source }) => resumes.inc({ source }));
  const resyncs = createCounter(registry, 'flagcast_resyncs_total');
  for (const reason of resyncReasons) resyncs.inc({ reason }, 0);
  lifecycle.on('channel:resync', ({ reason }) => resyncs.inc({ reason }));
}

/** The clocks of two machines may differ, and one may be set back: never less than 0. */
function secondsBetween(fromMs: number, toMs: number): number {
  return Math.max(0, toMs - fromMs) / 1_000;
}

function countConnections(lifecycle: Lifecycle, registry: Registry): void {
  const refusedConnections = createCounter(registry, 'flagcast_connections_refused_total');
  lifecycle.on('connection:refused', ({ code }) => refusedConnections.inc({ code }));
  const refusedRequests = createCounter(registry, 'flagcast_requests_refused_total');
  lifecycle.on('request:refused', ({ code }) => refusedRequests.inc({ code }));
  const accessFailures = createCounter(registry, 'flagcast_access_failures_total');
  lifecycle.on('access:failed', () => accessFailures.inc());
  const pauses = createCounter(registry, 'flagcast_pauses_total');
  lifecycle.on('connection:paused', () => pauses.inc());
  const drained = createCounter(registry, 'flagcast_pauses_drained_total');
  lifecycle.on('connection:drained', () => drained.inc());
  const closed = createCounter(registry, 'flagcast_connections_closed_total');
  const ownCodes = new Set<number>(Object.values(CloseCode));
  for (const code of ownCodes) closed.inc({ code }, 0);
  lifecycle.on('connection:closed', ({ code }) => {
    // A peer may choose any code from 3000 to 4999: it must not make a series of each.
    closed.inc({ code: code < 3_000 || ownCodes.has(code) ? code : 'other' });
  });
}

function countRelay(lifecycle: Lifecycle, registry: Registry): void {
  const role = createGauge(registry, 'flagcast_relay_role');
  const roles = ['direct', 'following', 'leading'] as const;
  const become = (own: (typeof roles)[number] | null): void => {
    for (const each of roles) role.set({ role: each }, each === own ? 1 : 0);
  };
  become(null);
  lifecycle.on('relay:connected', () => become('direct'));
  lifecycle.on('relay:lost', () => become('direct'));
  lifecycle.on('relay:direct', () => become('direct'));
  lifecycle.on('relay:leadership-lost', () => become('direct'));
  lifecycle.on('relay:following', () => become('following'));
  lifecycle.on('relay:elected', () => become('leading'));
  const batches = createCounter(registry, 'flagcast_relay_batches_total');
  for (const way of ['published', 'applied']) batches.inc({ way }, 0);
  lifecycle.on('relay:published', () => batches.inc({ way: 'published' }));
  lifecycle.on('relay:applied', () => batches.inc({ way: 'applied' }));
  const fetched = createCounter(registry, 'flagcast_relay_fetched_messages_total');
  lifecycle.on('relay:fetched', ({ messages }) => fetched.inc(messages));
  const losses = createCounter(registry, 'flagcast_relay_losses_total');
  lifecycle.on('relay:lost', () => losses.inc());
}

function showSessions({ sessionPools }: MetricsSources, registry: Registry): void {
  for (const [name, value] of [
    ['flagcast_database_sessions', 'used'],
    ['flagcast_database_sessions_limit', 'limit'],
    ['flagcast_database_sessions_waiting', 'waiting'],
  ] as const) {
    createGauge(registry, name, (gauge) => {
      for (const each of sessionPools) gauge.set({ purpose: each.purpose }, each[value]);
    });
  }
  new Counter({
    ...configured(registry, 'flagcast_database_session_timeouts_total'),
    collect() {
      this.reset();
      for (const { purpose, timeouts } of sessionPools) this.inc({ purpose }, timeouts);
    },
  });
}

function showState(sources: MetricsSources, registry: Registry): void {
  const { freshness, peers, unauthenticated, broadcaster, reader, eventLoopDelay } = sources;
  createGauge(registry, 'flagcast_ready', (gauge) => gauge.set(freshness.notReady() === null ? 1 : 0));
  createGauge(registry, 'flagcast_stale_seconds', (gauge) => gauge.set(freshness.staleForMs / 1_000));
  createGauge(registry, 'flagcast_connections', (gauge) => gauge.set(peers.count().all));
  createGauge(registry, 'flagcast_connections_unauthenticated', (gauge) => gauge.set(unauthenticated.count));
  createGauge(registry, 'flagcast_connections_paused', (gauge) => gauge.set(peers.count().paused));
  createHistogram(registry, 'flagcast_channel_connections', (histogram) => {
    histogram.zero({});
    for (const connections of broadcaster.subscriberCounts()) histogram.observe(connections);
  });
  createGauge(registry, 'flagcast_remembered_events', (gauge) => gauge.set(reader.rememberedEvents));
  createGauge(registry, 'flagcast_delivery_lag_seconds', (gauge) => gauge.set(broadcaster.lagMs / 1_000));
  createGauge(registry, 'flagcast_event_loop_delay_seconds', (gauge) => {
    // It counts from how long its timer is meant to take.
    const secondsOf = (nanoseconds: number): number =>
      Math.max(0, nanoseconds / 1e9 - eventLoopResolutionMs / 1_000);
    const { count, max } = eventLoopDelay;
    gauge.set({ statistic: 'p99' }, secondsOf(count === 0 ? 0 : eventLoopDelay.percentile(99)));
    gauge.set({ statistic: 'max' }, secondsOf(count === 0 ? 0 : max));
    eventLoopDelay.reset();
  });
  createGauge(registry, 'flagcast_process_resident_bytes', (gauge) => gauge.set(process.memoryUsage.rss()));
  new Counter({
    ...configured(registry, 'flagcast_process_cpu_seconds_total'),
    collect() {
      const { user, system } = process.cpuUsage();
      this.reset();
      this.inc((user + system) / 1e6);
    },
  });
}
