import { setTimeout as delay } from 'node:timers/promises';
import { prepareFlagcast, insertEvents } from '../targets/flagcast.js';
import { startReceivers } from '../load/receivers.js';
import { measure } from '../measurement.js';
import { oneCount } from '../options.js';
import { memoryOf, openFilesOf } from '../../testkit/process-figures.ts';
import { startProgress } from '../progress.js';
import { bound, clearProgress, machineLine, markdownTable, saveResult } from '../results.js';
import { percentile } from '../statistics.js';
import { openVisitors } from './visitors.js';

/** @import { BoundedRun } from '../../testkit/bounded-run.ts' */
/** @import { Options } from '../options.js' */
/** @import { Bound } from '../results.js' */
/** @import { PreparedFlagcast } from '../targets/flagcast.js' */

const defaultMinutes = 30;
/** Time limit for start and end, in milliseconds. */
const overheadMs = 10 * 60_000;
const channels = 10;
const eventsPerSecond = 20;
/** Short-lived connections per second. */
const visitsPerSecond = 10;
/** Interval of the samples, in milliseconds. */
const sampleIntervalMs = 15_000;
/** Pause in milliseconds, longer than idle connections are kept open for reuse. */
const idleCloseMs = 15_000;
const arrivalLimitMs = 60_000;
const boundGrowth = 1.1;
const boundDelayMs = 50;

/**
 * `delayMs`: p99 of the event loop delay since the previous sample.
 *
 * @typedef {{ readonly atS: number, readonly residentBytes: number, readonly openFiles: number, readonly delayMs: number }} Sample
 */

/**
 * Runs a server under a steady load: growth of its memory, leaked file descriptors, and delays of its event loop.
 *
 * @param {Options} options
 * @returns {Promise<readonly Bound[]>}
 */
export async function runSoak(options) {
  const clients = oneCount(options, 5_000);
  const { minutes = defaultMinutes, output } = options;
  const durationMs = minutes * 60_000;
  const measurement = { name: 'soak', limitMs: durationMs + overheadMs, clients };
  return await measure(measurement, async ({ run, postgres, machine }) => {
    const maxConnections = 2 * clients;
    const prepared = await prepareFlagcast({ run, postgres, channels, maxConnections });
    const { port, pid } = await prepared.serve();
    await delay(idleCloseMs, undefined, { signal: run.signal });
    const filesBefore = await openFilesOf(pid);
    const groups = await connectReceivers(run, prepared, port, clients);

    const ending = new AbortController();
    const signal = AbortSignal.any([ending.signal, run.signal]);
    /** @type {number[]} */
    const published = [];
    const publishing = atRate(eventsPerSecond, signal, async (number) => {
      published.push(number % channels);
      await insertEvents(prepared.database, prepared.channelIds, [number % channels]);
    });
    const visitors = openVisitors({ port, headers: prepared.headers, path: prepared.address(0).path });
    const visiting = atRate(visitsPerSecond, signal, async () => {
      visitors.visit();
      await Promise.resolve();
    });
    const samples = await takeSamples(run, { port, pid, durationMs, published });
    ending.abort();
    await Promise.all([publishing, visiting]);
    const { visits, failed } = await visitors.finish();

    let missing = 0;
    let lost = 0;
    let deliveries = 0;
    for (const { receivers } of groups) {
      if (!(await receivers.expect(published, arrivalLimitMs))) missing += 1;
      const count = await receivers.disconnect();
      lost += count.lost;
      deliveries += count.events;
    }
    await delay(idleCloseMs, undefined, { signal: run.signal });
    const leakedFiles = (await openFilesOf(pid)) - filesBefore;
    clearProgress();

    const bounds = [
      ...boundsOf(samples),
      bound('leaked open files', leakedFiles, 0, ''),
      bound('groups of clients with missing events', missing, 0, ''),
      bound('closed connections', lost, 0, ''),
      bound('failed short-lived connections', failed, 0, ''),
    ];
    const events = published.length;
    const file = await saveResult(
      'soak',
      { machine, bounds, minutes, clients, events, deliveries, visits, samples },
      output,
    );
    console.log(
      `${clients} connections, half plain and half flagcast.v1, on ${channels} channels for ${minutes} minutes: ${events} events, ${deliveries} deliveries, ${visits} short-lived connections`,
    );
    console.log(machineLine(machine));
    console.log(`\n${tableOf(samples)}\n\nWritten to ${file}`);
    return bounds;
  });
}

/**
 * Connects the receivers: half of them plain, half flagcast.v1.
 *
 * @param {BoundedRun} run
 * @param {PreparedFlagcast} prepared
 * @param {number} port
 * @param {number} clients
 */
async function connectReceivers(run, prepared, port, clients) {
  const groups = [
    { dialect: /** @type {const} */ ('text'), clients: Math.ceil(clients / 2) },
    { dialect: /** @type {const} */ ('flagcast.v1'), clients: Math.floor(clients / 2) },
  ].map((group) => ({ ...group, receivers: startReceivers(run, group.clients) }));
  for (const { dialect, receivers, clients: count } of groups) {
    const perChannel = Array.from({ length: channels }, (_, channel) => ({
      ...prepared.address(channel),
      clients: Math.floor(count / channels) + (channel < count % channels ? 1 : 0),
    }));
    await receivers.connect({ port, dialect, headers: prepared.headers }, perChannel);
  }
  return groups;
}

/**
 * Samples the server every `sampleIntervalMs` for `durationMs`.
 *
 * @param {BoundedRun} run
 * @param {{ readonly port: number, readonly pid: number, readonly durationMs: number, readonly published: readonly number[] }} of
 * @returns {Promise<Sample[]>}
 */
async function takeSamples(run, { port, pid, durationMs, published }) {
  /** @type {Sample[]} */
  const samples = [];
  const startedAtMs = performance.now();
  const count = Math.floor(durationMs / sampleIntervalMs);
  const progress = startProgress('soak', count);
  await eventLoopDelayMs(port);
  for (let number = 1; number <= count; number += 1) {
    const restMs = startedAtMs + number * sampleIntervalMs - performance.now();
    await delay(Math.max(1, restMs), undefined, { signal: run.signal });
    const { residentBytes } = await memoryOf([pid]);
    const openFiles = await openFilesOf(pid);
    const atS = (performance.now() - startedAtMs) / 1_000;
    samples.push({ atS, residentBytes, openFiles, delayMs: await eventLoopDelayMs(port) });
    progress.step(
      `${Math.round(residentBytes / 1e6)} MB, ${openFiles} open files, ${published.length} events`,
    );
  }
  return samples;
}

/**
 * The first quarter of the samples is the warm-up: replay buffers fill, and code is compiled.
 *
 * @param {readonly Sample[]} samples
 */
function boundsOf(samples) {
  const quarter = Math.ceil(samples.length / 4);
  const growth = medianOf(samples.slice(-quarter)) / medianOf(samples.slice(quarter, 2 * quarter));
  const delayMs = Math.max(...samples.slice(1).map((sample) => sample.delayMs));
  return [
    bound('resident memory of the last quarter over the second', growth, boundGrowth),
    bound('event loop delay, highest p99 of 15 s', delayMs, boundDelayMs, ' ms'),
  ];
}

/** @param {readonly Sample[]} samples */
function tableOf(samples) {
  const quarter = Math.ceil(samples.length / 4);
  const rows = [0, 1, 2, 3].map((number) => {
    const part = samples.slice(number * quarter, (number + 1) * quarter);
    return [
      `quarter ${number + 1}`,
      (medianOf(part) / 1e6).toFixed(0),
      String(Math.max(...part.map(({ openFiles }) => openFiles))),
      Math.max(...part.map((sample) => sample.delayMs)).toFixed(1),
    ];
  });
  const head = ['', 'MB resident (median)', 'open files (maximum)', 'event loop p99, ms (highest)'];
  return markdownTable(head, rows);
}

/**
 * Repeats `work` at a steady rate until the signal is aborted, without overlap.
 *
 * @param {number} perSecond
 * @param {AbortSignal} signal
 * @param {(number: number) => Promise<void>} work
 */
async function atRate(perSecond, signal, work) {
  const startedAtMs = performance.now();
  for (let number = 0; !signal.aborted; number += 1) {
    await work(number);
    const restMs = startedAtMs + ((number + 1) * 1_000) / perSecond - performance.now();
    await delay(Math.max(1, restMs), undefined, { signal }).catch(() => undefined);
  }
}

/** @param {readonly Sample[]} samples */
function medianOf(samples) {
  return percentile(
    samples.map(({ residentBytes }) => residentBytes),
    0.5,
  );
}

/**
 * Returns the p99 of the server's event loop delay since the previous call, in milliseconds.
 *
 * @param {number} port
 */
async function eventLoopDelayMs(port) {
  const response = await fetch(`http://127.0.0.1:${port}/metrics`, { headers: { Connection: 'close' } });
  const found = /^flagcast_event_loop_delay_seconds\{statistic="p99"\} (\S+)$/m.exec(await response.text());
  if (found === null) throw new Error('/metrics has no flagcast_event_loop_delay_seconds');
  return Number(found[1]) * 1_000;
}
