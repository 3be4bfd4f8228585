import { setTimeout as delay } from 'node:timers/promises';
import { prepareFlagcast, insertEvents } from '../contenders/flagcast.js';
import { startReceivers } from '../load/receivers.js';
import { measure } from '../measurement.js';
import { oneCount } from '../options.js';
import { memoryOf, openFilesOf } from '../process-figures.js';
import { startProgress } from '../progress.js';
import { bound, clearProgress, machineLine, markdownTable, saveResult } from '../results.js';
import { percentile } from '../statistics.js';
import { receiveVisitors } from './visitors.js';

/** @import { Options } from '../options.js' */
/** @import { Bound } from '../results.js' */

const defaultMinutes = 30;
/** Beside the load: starting and leaving, in milliseconds. */
const besideMs = 10 * 60_000;
const channels = 10;
const eventsPerSecond = 20;
/** Connections that come for a moment and leave again, in a second. */
const visitsPerSecond = 10;
/** From one look at the server to the next, in milliseconds. */
const lookIntervalMs = 15_000;
/** So long that whatever is kept open for reuse has been closed, in milliseconds. */
const settleMs = 15_000;
const arrivalLimitMs = 60_000;
const boundGrowth = 1.1;
const boundDelayMs = 50;

/**
 * `delayMs`: by how much the event loop was late in 99 of 100 cases since the look before.
 *
 * @typedef {{ readonly atS: number, readonly residentBytes: number, readonly openFiles: number, readonly delayMs: number }} Look
 */

/**
 * A server under a steady load for half an hour: what grows, what is left behind, and how late it ever is.
 *
 * @param {Options} options
 * @returns {Promise<readonly Bound[]>}
 */
export async function runSoak(options) {
  const clients = oneCount(options, 5_000);
  const { minutes = defaultMinutes, output } = options;
  const lengthMs = minutes * 60_000;
  const measurement = { name: 'soak', limitMs: lengthMs + besideMs, clients };
  return await measure(measurement, async ({ run, postgres, machine }) => {
    const maxConnections = 2 * clients;
    const prepared = await prepareFlagcast({ run, postgres, channels, maxConnections });
    const { port, pid } = await prepared.serve();
    await delay(settleMs, undefined, { signal: run.signal });
    const filesBefore = await openFilesOf(pid);

    const kinds = [
      { dialect: /** @type {const} */ ('text'), clients: Math.ceil(clients / 2) },
      { dialect: /** @type {const} */ ('flagcast.v1'), clients: Math.floor(clients / 2) },
    ].map((kind) => ({ ...kind, receivers: startReceivers(run, kind.clients) }));
    for (const { dialect, receivers, clients: count } of kinds) {
      const groups = Array.from({ length: channels }, (_, channel) => ({
        ...prepared.address(channel),
        clients: Math.floor(count / channels) + (channel < count % channels ? 1 : 0),
      }));
      await receivers.connect({ port, dialect, headers: prepared.headers }, groups);
    }

    const ending = new AbortController();
    const signal = AbortSignal.any([ending.signal, run.signal]);
    /** @type {number[]} */
    const published = [];
    const publishing = atRate(eventsPerSecond, signal, async (turn) => {
      published.push(turn % channels);
      await insertEvents(prepared.database, prepared.places, [turn % channels]);
    });
    const visitors = receiveVisitors({ port, headers: prepared.headers, path: prepared.address(0).path });
    const visiting = atRate(visitsPerSecond, signal, async () => {
      visitors.come();
      await Promise.resolve();
    });

    /** @type {Look[]} */
    const looks = [];
    const startedAtMs = performance.now();
    const wanted = Math.floor(lengthMs / lookIntervalMs);
    const progress = startProgress('soak', wanted);
    await delayOf(port);
    for (let turn = 1; turn <= wanted; turn += 1) {
      const restMs = startedAtMs + turn * lookIntervalMs - performance.now();
      await delay(Math.max(1, restMs), undefined, { signal: run.signal });
      const { residentBytes } = await memoryOf(pid);
      const openFiles = await openFilesOf(pid);
      const atS = (performance.now() - startedAtMs) / 1_000;
      looks.push({ atS, residentBytes, openFiles, delayMs: await delayOf(port) });
      progress.step(
        `${Math.round(residentBytes / 1e6)} MB, ${openFiles} open files, ${published.length} events`,
      );
    }
    ending.abort();
    await Promise.all([publishing, visiting]);
    const { visits, failed } = await visitors.leave();

    let missing = 0;
    let lost = 0;
    let deliveries = 0;
    for (const { receivers } of kinds) {
      if (!(await receivers.expect(published, arrivalLimitMs))) missing += 1;
      const count = await receivers.disconnect();
      lost += count.lost;
      deliveries += count.events;
    }
    await delay(settleMs, undefined, { signal: run.signal });
    const filesLeft = (await openFilesOf(pid)) - filesBefore;
    clearProgress();

    // The first quarter is the warm-up: what is kept for those who come back fills up, and code is compiled.
    const quarter = Math.ceil(looks.length / 4);
    const second = looks.slice(quarter, 2 * quarter);
    const last = looks.slice(-quarter);
    const growth = medianOf(last) / medianOf(second);
    const delayMs = Math.max(...looks.slice(1).map((look) => look.delayMs));
    const bounds = [
      bound('resident memory of the last quarter over that of the second', growth, boundGrowth),
      bound('event loop, p99 of the worst quarter of a minute', delayMs, boundDelayMs, ' ms'),
      bound('open files left when all have gone', filesLeft, 0, ''),
      bound('kinds of clients that events did not arrive at', missing, 0, ''),
      bound('connections cut off', lost, 0, ''),
      bound('visits that failed', failed, 0, ''),
    ];
    const events = published.length;
    const file = await saveResult(
      'soak',
      { machine, bounds, minutes, clients, events, deliveries, visits, looks },
      output,
    );
    console.log(
      `${clients} connections, half plain and half flagcast.v1, on ${channels} channels for ${minutes} minutes: ${events} events, ${deliveries} deliveries, ${visits} visitors`,
    );
    console.log(machineLine(machine));
    const rows = [0, 1, 2, 3].map((number) => {
      const part = looks.slice(number * quarter, (number + 1) * quarter);
      return [
        `quarter ${number + 1}`,
        (medianOf(part) / 1e6).toFixed(0),
        String(Math.max(...part.map(({ openFiles }) => openFiles))),
        Math.max(...part.map((look) => look.delayMs)).toFixed(1),
      ];
    });
    const head = ['', 'MB resident (median)', 'open files (most)', 'event loop p99, ms (worst)'];
    console.log(`\n${markdownTable(head, rows)}\n\nWritten to ${file}`);
    return bounds;
  });
}

/**
 * Does something at a steady rate until the signal comes, each time once the last is done.
 *
 * @param {number} perSecond
 * @param {AbortSignal} signal
 * @param {(turn: number) => Promise<void>} work
 */
async function atRate(perSecond, signal, work) {
  const startedAtMs = performance.now();
  for (let turn = 0; !signal.aborted; turn += 1) {
    await work(turn);
    const restMs = startedAtMs + ((turn + 1) * 1_000) / perSecond - performance.now();
    await delay(Math.max(1, restMs), undefined, { signal }).catch(() => undefined);
  }
}

/** @param {readonly Look[]} looks */
function medianOf(looks) {
  return percentile(
    looks.map(({ residentBytes }) => residentBytes),
    0.5,
  );
}

/**
 * By how much the server's event loop was late in 99 of 100 cases since this was asked for last, in milliseconds.
 *
 * @param {number} port
 */
async function delayOf(port) {
  const answer = await fetch(`http://127.0.0.1:${port}/metrics`, { headers: { Connection: 'close' } });
  const found = /^flagcast_event_loop_delay_seconds\{statistic="p99"\} (\S+)$/m.exec(await answer.text());
  if (found === null) throw new Error('/metrics tells nothing of the event loop');
  return Number(found[1]) * 1_000;
}
