import { createRandom } from '../../../packages/demo/dist/company/random.js';
import { costs } from './costs.js';

/**
 * Simulates a reader that is woken by commits of a Poisson process and polls. Returns its reads per second.
 *
 * @param {{ readonly commits: number, readonly seconds: number, readonly seed: number }} options `commits` per second
 */
export function simulateReader({ commits, seconds, seed }) {
  const random = createRandom(seed);
  let reads = 0;
  let nextCommit = exponential(random, commits);
  let nextPoll = 0;
  for (let now = 0; now < seconds;) {
    now = Math.max(now, Math.min(nextCommit, nextPoll));
    reads += 1;
    // A read that is due at the time of a poll serves as the poll.
    if (now >= nextPoll) nextPoll = now + 1 / costs.pollsPerSecond;
    // The read returns the commits before its start; later ones share the next read.
    while (nextCommit <= now) nextCommit += exponential(random, commits);
    now += costs.readSeconds;
  }
  return reads / seconds;
}

/**
 * Simulates clients that lose their server at the same time and reconnect with exponential backoff and full jitter, from
 * 250 ms to 30 s. A server rejects clients that would have to wait for more than 10 s.
 *
 * @param {{
 *   readonly clients: number, readonly servers: number, readonly awaySeconds: number, readonly seed: number,
 *   readonly attemptSeconds?: number,
 * }} options `servers`: available after `awaySeconds`. `attemptSeconds`: processor time of an attempt if all clients share a
 * core, as in a benchmark; default 0
 * @returns {number} seconds from `awaySeconds` until all clients are live
 */
export function simulateStorm({ clients, servers, awaySeconds, seed, attemptSeconds = 0 }) {
  const random = createRandom(seed);
  const service = costs.reconnectMilliseconds / 1_000;
  const attempts = new Attempts();
  /** @param {number} failures */
  const pause = (failures) => random.next() * Math.min(0.25 * 2 ** failures, 30);
  for (let client = 0; client < clients; client += 1) attempts.add({ at: pause(0), failures: 1 });
  /** Time at which each server is free. */
  const freeAt = Array.from({ length: servers }, () => awaySeconds);
  let last = awaySeconds;
  let clientsFreeAt = 0;
  for (let attempt = attempts.take(); attempt !== null; attempt = attempts.take()) {
    const { failures } = attempt;
    const at = Math.max(attempt.at, clientsFreeAt);
    clientsFreeAt = at + attemptSeconds;
    const server = random.between(0, servers - 1);
    const free = freeAt[server] ?? 0;
    const isAway = at < awaySeconds;
    if (isAway || free - at > 10) {
      const failedAt = isAway ? at : at + 10;
      attempts.add({ at: failedAt + pause(failures), failures: failures + 1 });
      continue;
    }
    const live = Math.max(at, free) + service;
    freeAt[server] = live;
    last = Math.max(last, live);
  }
  return last - awaySeconds;
}

/**
 * Simulates the kill of a fleet's leader at a random time. Returns the seconds until another server has taken over. The
 * leader sends a heartbeat every 0.5 s; followers wait 1.5 s plus up to 0.25 s, and check five times a second. The first one
 * that times out takes the lock.
 *
 * @param {{ readonly servers: number, readonly seed: number }} options
 */
export function simulateTakeover({ servers, seed }) {
  const random = createRandom(seed);
  const sinceHeartbeat = random.next() * 0.5;
  const timeouts = Array.from(
    { length: servers - 1 },
    () => 1.5 + random.next() * 0.25 + random.next() * 0.2,
  );
  return Math.min(...timeouts) - sinceHeartbeat + costs.electionSeconds;
}

/** @typedef {{ readonly at: number, readonly failures: number }} Attempt */

/** A priority queue of attempts by time: a binary heap. */
class Attempts {
  /** @type {Attempt[]} */
  #heap = [];

  /** @param {Attempt} attempt */
  add(attempt) {
    const heap = this.#heap;
    let index = heap.length;
    heap.push(attempt);
    while (index > 0) {
      const parent = (index - 1) >> 1;
      if (timeOf(heap[parent]) <= attempt.at) break;
      swap(heap, index, parent);
      index = parent;
    }
  }

  /** @returns {Attempt | null} */
  take() {
    const heap = this.#heap;
    const [first] = heap;
    const last = heap.pop();
    if (first === undefined || last === undefined) return null;
    if (heap.length === 0) return first;
    heap[0] = last;
    for (let index = 0; ;) {
      const left = 2 * index + 1;
      const right = left + 1;
      const smaller = right < heap.length && timeOf(heap[right]) < timeOf(heap[left]) ? right : left;
      if (smaller >= heap.length || timeOf(heap[smaller]) >= last.at) return first;
      swap(heap, index, smaller);
      index = smaller;
    }
  }
}

/** @param {Attempt | undefined} attempt */
function timeOf(attempt) {
  return attempt?.at ?? Infinity;
}

/**
 * @param {Attempt[]} heap
 * @param {number} one
 * @param {number} other
 */
function swap(heap, one, other) {
  const kept = heap[one];
  const moved = heap[other];
  if (kept === undefined || moved === undefined) return;
  heap[one] = moved;
  heap[other] = kept;
}

/**
 * @param {import('../../../packages/demo/dist/company/random.js').Random} random
 * @param {number} perSecond
 */
function exponential(random, perSecond) {
  return -Math.log(1 - random.next()) / perSecond;
}
