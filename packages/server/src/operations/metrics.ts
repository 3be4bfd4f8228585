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
import {
  type CounterName,
  type GaugeName,
  type HistogramName,
  type MetricDefinition,
  metricTable,
} from './metric-table.js';

/** What the metrics read when they are scraped. */
export interface MetricsSources {
  readonly freshness: Pick<Freshness, 'notReady' | 'staleForMs'>;
  readonly connections: Pick<ConnectionRegistry, 'count'>;
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
  const metrics = new Metrics(registry);
  countLosses(lifecycle, metrics);
  countReads(lifecycle, metrics);
  countDeliveries(lifecycle, metrics);
  countConnections(lifecycle, metrics);
  countRelay(lifecycle, metrics);
  showState(sources, metrics);
  showSessions(sources, metrics);
  return registry;
}

/** Makes metrics of the table. `collect` sets the value of a metric when it is scraped. */
export class Metrics {
  readonly #registry: Registry;

  constructor(registry: Registry) {
    this.#registry = registry;
  }

  /** `label` and `values`: series that exist before the first event. */
  counter(name: CounterName, label = '', values: readonly (string | number)[] = []): Counter {
    const counter = new Counter(this.#options(name));
    for (const value of values) counter.inc({ [label]: value }, 0);
    return counter;
  }

  /** A counter whose value is known elsewhere. */
  total(name: CounterName, collect: (counter: Counter) => void): void {
    new Counter({
      ...this.#options(name),
      collect() {
        this.reset();
        collect(this);
      },
    });
  }

  gauge(name: GaugeName, collect: (gauge: Gauge) => void = () => undefined): Gauge {
    return new Gauge({
      ...this.#options(name),
      collect() {
        collect(this);
      },
    });
  }

  histogram(name: HistogramName, collect: (histogram: Histogram) => void = () => undefined): Histogram {
    return new Histogram({
      ...this.#options(name),
      buckets: [...metricTable[name].buckets],
      collect() {
        collect(this);
      },
    });
  }

  #options(name: keyof typeof metricTable): {
    name: string;
    help: string;
    labelNames: string[];
    registers: Registry[];
  } {
    const { help, labels = [] }: MetricDefinition = metricTable[name];
    return { name, help, labelNames: [...labels], registers: [this.#registry] };
  }
}

/** Counters of events of the lifecycle. */
function countLosses(lifecycle: Lifecycle, metrics: Metrics): void {
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
    const counter = metrics.counter(name);
    lifecycle.on(event, () => counter.inc());
  }
}

function countReads(lifecycle: Lifecycle, metrics: Metrics): void {
  const reads = metrics.counter('flagcast_reads_total', 'trigger', ['poll', 'wake', 'follow_up']);
  const readSeconds = metrics.histogram('flagcast_read_seconds');
  const events = metrics.counter('flagcast_events_total');
  const lastRead = metrics.gauge('flagcast_last_read_timestamp_seconds');
  lifecycle.on('reader:read', ({ trigger, fresh, durationMs }) => {
    reads.inc({ trigger });
    events.inc(fresh);
    readSeconds.observe(durationMs / 1_000);
    lastRead.setToCurrentTime();
  });
  // A follower of the relay learns only that the database was read.
  lifecycle.on('relay:heartbeat', ({ readAgoMs }) => lastRead.set((Date.now() - readAgoMs) / 1_000));
  const pruned = metrics.counter('flagcast_log_rows_pruned_total');
  lifecycle.on('log:pruned', ({ rows }) => pruned.inc(rows));
  const listening = metrics.gauge('flagcast_listening');
  lifecycle.on('listener:listening', () => listening.set(1));
  lifecycle.on('listener:unavailable', () => listening.set(0));
  lifecycle.on('listener:failed', () => listening.set(0));
}

function countDeliveries(lifecycle: Lifecycle, metrics: Metrics): void {
  const deliveries = metrics.counter('flagcast_deliveries_total');
  const batchEvents = metrics.histogram('flagcast_batch_events');
  const commitToSeen = metrics.histogram('flagcast_commit_to_seen_seconds');
  const seenToSent = metrics.histogram('flagcast_seen_to_sent_seconds');
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
  const resumes = metrics.counter('flagcast_resumes_total', 'source', ['buffer', 'log', 'database']);
  lifecycle.on('channel:resumed', ({ source }) => resumes.inc({ source }));
  const resyncs = metrics.counter('flagcast_resyncs_total', 'reason', resyncReasons);
  lifecycle.on('channel:resync', ({ reason }) => resyncs.inc({ reason }));
}

function countConnections(lifecycle: Lifecycle, metrics: Metrics): void {
  const refusedConnections = metrics.counter('flagcast_connections_refused_total');
  lifecycle.on('connection:refused', ({ code }) => refusedConnections.inc({ code }));
  const refusedRequests = metrics.counter('flagcast_requests_refused_total');
  lifecycle.on('request:refused', ({ code }) => refusedRequests.inc({ code }));
  const ownCodes = new Set<number>(Object.values(CloseCode));
  const closed = metrics.counter('flagcast_connections_closed_total', 'code', [...ownCodes]);
  lifecycle.on('connection:closed', ({ code }) => {
    // Clients can send any code from 3000 to 4999. It must not become a series each.
    closed.inc({ code: code < 3_000 || ownCodes.has(code) ? code : 'other' });
  });
}

function countRelay(lifecycle: Lifecycle, metrics: Metrics): void {
  const role = metrics.gauge('flagcast_relay_role');
  const setRole = (own: 'direct' | 'following' | 'leading' | null): void => {
    for (const each of ['direct', 'following', 'leading']) role.set({ role: each }, each === own ? 1 : 0);
  };
  setRole(null);
  for (const event of ['relay:connected', 'relay:lost', 'relay:direct', 'relay:leadership-lost'] as const) {
    lifecycle.on(event, () => setRole('direct'));
  }
  lifecycle.on('relay:following', () => setRole('following'));
  lifecycle.on('relay:elected', () => setRole('leading'));
  const batches = metrics.counter('flagcast_relay_batches_total', 'way', ['published', 'applied']);
  lifecycle.on('relay:published', () => batches.inc({ way: 'published' }));
  lifecycle.on('relay:applied', () => batches.inc({ way: 'applied' }));
  const fetched = metrics.counter('flagcast_relay_fetched_messages_total');
  lifecycle.on('relay:fetched', ({ messages }) => fetched.inc(messages));
}

function showSessions({ sessionPools }: MetricsSources, metrics: Metrics): void {
  for (const [name, value] of [
    ['flagcast_database_sessions', 'used'],
    ['flagcast_database_sessions_limit', 'limit'],
    ['flagcast_database_sessions_waiting', 'waiting'],
  ] as const) {
    metrics.gauge(name, (gauge) => {
      for (const each of sessionPools) gauge.set({ purpose: each.purpose }, each[value]);
    });
  }
  metrics.total('flagcast_database_session_timeouts_total', (counter) => {
    for (const { purpose, timeouts } of sessionPools) counter.inc({ purpose }, timeouts);
  });
}

function showState(sources: MetricsSources, metrics: Metrics): void {
  const { freshness, connections, presence, httpConnections, broadcaster, reader, eventLoopDelay } = sources;
  metrics.gauge('flagcast_ready', (gauge) => gauge.set(freshness.notReady() === null ? 1 : 0));
  metrics.gauge('flagcast_stale_seconds', (gauge) => gauge.set(freshness.staleForMs / 1_000));
  metrics.gauge('flagcast_connections', (gauge) => gauge.set(connections.count().all));
  metrics.gauge('flagcast_connections_unauthenticated', (gauge) =>
    gauge.set(httpConnections.unauthenticated),
  );
  metrics.gauge('flagcast_connections_paused', (gauge) => gauge.set(connections.count().paused));
  metrics.histogram('flagcast_channel_connections', (histogram) => {
    histogram.zero({});
    for (const connections of broadcaster.channelSubscribers()) histogram.observe(connections);
  });
  metrics.gauge('flagcast_approvals_connections', (gauge) => gauge.set(broadcaster.approvalsSubscribers));
  metrics.gauge('flagcast_presence_views', (gauge) => gauge.set(presence?.size ?? 0));
  metrics.gauge('flagcast_remembered_events', (gauge) => gauge.set(reader.rememberedEvents));
  metrics.gauge('flagcast_delivery_lag_seconds', (gauge) => gauge.set(broadcaster.lagMs / 1_000));
  metrics.gauge('flagcast_event_loop_delay_seconds', (gauge) => {
    // The histogram includes the interval of its timer.
    const secondsOf = (nanoseconds: number): number =>
      Math.max(0, nanoseconds / 1e9 - eventLoopResolutionMs / 1_000);
    const { count, max } = eventLoopDelay;
    gauge.set({ statistic: 'p99' }, secondsOf(count === 0 ? 0 : eventLoopDelay.percentile(99)));
    gauge.set({ statistic: 'max' }, secondsOf(count === 0 ? 0 : max));
    eventLoopDelay.reset();
  });
  metrics.gauge('flagcast_process_resident_bytes', (gauge) => gauge.set(process.memoryUsage.rss()));
  metrics.total('flagcast_process_cpu_seconds_total', (counter) => {
    const { user, system } = process.cpuUsage();
    counter.inc((user + system) / 1e6);
  });
}
