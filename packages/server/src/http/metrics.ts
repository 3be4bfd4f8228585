import type { IntervalHistogram } from 'node:perf_hooks';
import { CloseCode } from '@flagcast/protocol';
import { Counter, Gauge, Histogram, Registry } from 'prom-client';
import type { Lifecycle } from '../lifecycle.js';

/** What the metrics ask for when they are scraped. */
export interface MetricsSources {
  openConnections: () => number;
  rememberedEvents: () => number;
  /** By how much the event loop was late, in nanoseconds; is reset when it was told. */
  eventLoopDelay: IntervalHistogram;
}

/** How often the event loop is looked at, in milliseconds. */
export const eventLoopResolutionMs = 10;

/** Prometheus metrics: subscribers of the lifecycle, in `registry` (default: one of their own); no label names a user or a project. */
export function createMetrics(
  lifecycle: Lifecycle,
  sources: MetricsSources,
  registry = new Registry(),
): Registry {
  const registers = [registry];

  const reads = new Counter({
    name: 'flagcast_reads_total',
    help: 'Reads of the view, by what caused them (poll or wake).',
    labelNames: ['trigger'],
    registers,
  });
  const readSeconds = new Histogram({
    name: 'flagcast_read_seconds',
    help: 'How long a read took.',
    buckets: [0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5],
    registers,
  });
  const events = new Counter({
    name: 'flagcast_events_total',
    help: 'Events read from the database, each counted once.',
    registers,
  });
  const deliveries = new Counter({
    name: 'flagcast_deliveries_total',
    help: 'Events handed to subscribed connections.',
    registers,
  });
  const readFailures = new Counter({
    name: 'flagcast_read_failures_total',
    help: 'Attempts to read or to reconnect that failed.',
    registers,
  });
  const listenFailures = new Counter({
    name: 'flagcast_listen_failures_total',
    help: 'Losses of the LISTEN connection and failed attempts to renew it.',
    registers,
  });
  const lateEvents = new Counter({
    name: 'flagcast_late_events_total',
    help: 'Events of a view without transaction ids that were committed later than the overlap: delivered late, and lost for who came back after them.',
    registers,
  });
  const oldestTransactionSeconds = new Gauge({
    name: 'flagcast_oldest_transaction_seconds',
    help: 'Age of the oldest open transaction of the database: it holds the watermark or the floor back.',
    registers,
  });
  const lastReadTimestamp = new Gauge({
    name: 'flagcast_last_read_timestamp_seconds',
    help: 'When the last read succeeded, in seconds since the epoch.',
    registers,
  });
  const refused = new Counter({
    name: 'flagcast_connections_refused_total',
    help: 'Connections that were refused before they were open, by reason.',
    labelNames: ['code'],
    registers,
  });
  const closed = new Counter({
    name: 'flagcast_connections_closed_total',
    help: 'Connections that ended, by close code; "other" for codes that peers made up.',
    labelNames: ['code'],
    registers,
  });
  new Gauge({
    name: 'flagcast_connections',
    help: 'Open connections.',
    registers,
    collect() {
      this.set(sources.openConnections());
    },
  });
  new Gauge({
    name: 'flagcast_remembered_events',
    help: 'Delivered events that a read may still bring again.',
    registers,
    collect() {
      this.set(sources.rememberedEvents());
    },
  });

  new Gauge({
    name: 'flagcast_event_loop_delay_seconds',
    help: 'By how much the event loop was late since this was asked for last: in 99 of 100 cases, and at the most.',
    labelNames: ['statistic'],
    registers,
    collect() {
      const { eventLoopDelay } = sources;
      // It counts from how long its timer is meant to take.
      const secondsOf = (nanoseconds: number): number =>
        Math.max(0, nanoseconds / 1e9 - eventLoopResolutionMs / 1_000);
      const { count, max } = eventLoopDelay;
      this.set({ statistic: 'p99' }, secondsOf(count === 0 ? 0 : eventLoopDelay.percentile(99)));
      this.set({ statistic: 'max' }, secondsOf(count === 0 ? 0 : max));
      eventLoopDelay.reset();
    },
  });

  lifecycle.on('reader:read', ({ trigger, fresh, durationMs }) => {
    reads.inc({ trigger });
    events.inc(fresh);
    readSeconds.observe(durationMs / 1_000);
    lastReadTimestamp.setToCurrentTime();
  });
  lifecycle.on('reader:observed', ({ oldestTransactionMs }) => {
    oldestTransactionSeconds.set(oldestTransactionMs / 1_000);
  });
  lifecycle.on('reader:late', (late) => lateEvents.inc(late.events));
  lifecycle.on('reader:failed', () => readFailures.inc());
  lifecycle.on('listener:failed', () => listenFailures.inc());
  lifecycle.on('batch:broadcast', (batch) => deliveries.inc(batch.deliveries));
  lifecycle.on('connection:refused', ({ code }) => refused.inc({ code }));
  const ownCodes = new Set<number>(Object.values(CloseCode));
  lifecycle.on('connection:closed', ({ code }) => {
    // A peer may choose any code from 3000 to 4999: it must not make a series of each.
    closed.inc({ code: code < 3_000 || ownCodes.has(code) ? code : 'other' });
  });
  return registry;
}
