import { createRandom } from '../../packages/demo/dist/company/random.js';
import { costs } from './costs.js';

/**
 * Commits as they come by chance, and a reader that is woken by each and polls: its reads in a second.
 *
 * @param {{ readonly commits: number, readonly seconds: number, readonly seed: number }} of `commits` in a second
 */
export function simulateReader({ commits, seconds, seed }) {
  const random = createRandom(seed);
  let reads = 0;
  let nextCommit = exponential(random, commits);
  let nextPoll = 0;
  for (let now = 0; now < seconds;) {
    now = Math.max(now, Math.min(nextCommit, nextPoll));
    reads += 1;
    // A poll is put off by nothing, and a read that is due anyway is it.
    if (now >= nextPoll) nextPoll = now + 1 / costs.pollsPerSecond;
    // What was committed before this read began is in it; what comes meanwhile shares the next one.
    while (nextCommit <= now) nextCommit += exponential(random, commits);
    now += costs.readSeconds;
  }
  return reads / seconds;
}

/**
 * Clients that lose their server at the same moment and come back to what there is, with pauses of full jitter
 * from 250 ms, twice as long each time and 30 s at the most; who has to wait for 10 s is sent away and tries again.
 *
 * @param {{
 *   readonly clients: number, readonly servers: number, readonly awaySeconds: number, readonly seed: number,
 *   readonly attemptSeconds?: number,
 * }} of `servers` take them from `awaySeconds` on; `attemptSeconds`: what an attempt costs where all clients share a
 * processor, as in a measurement, default nothing
 * @returns {number} seconds after that until all are live again
 */
export function simulateStorm({ clients, servers, awaySeconds, seed, attemptSeconds = 0 }) {
  const random = createRandom(seed);
  const service = costs.comebackMilliseconds / 1_000;
  const attempts = new Attempts();
  /** @param {number} losses */
  const pause = (losses) => random.next() * Math.min(0.25 * 2 ** losses, 30);
  for (let client = 0; client < clients; client += 1) attempts.add({ at: pause(0), losses: 1 });
  /** When each server has done with those before. */
  const freeAt = Array.from({ length: servers }, () => awaySeconds);
  let last = awaySeconds;
  let clientsFreeAt = 0;
  for (let attempt = attempts.take(); attempt !== null; attempt = attempts.take()) {
    const { losses } = attempt;
    const at = Math.max(attempt.at, clientsFreeAt);
    clientsFreeAt = at + attemptSeconds;
    const server = random.between(0, servers - 1);
    const free = freeAt[server] ?? 0;
    const isAway = at < awaySeconds;
    if (isAway || free - at > 10) {
      const noticed = isAway ? at : at + 10;
      attempts.add({ at: noticed + pause(losses), losses: losses + 1 });
      continue;
    }
    const live = Math.max(at, free) + service;
    freeAt[server] = live;
    last = Math.max(last, live);
  }
  return last - awaySeconds;
}

/**
 * The reader of a fleet is killed at any moment: seconds until another one has taken its place. The others are
 * patient for 1.5 s after its last beat, which comes every half second, and each for up to a quarter longer, and look
 * five times a second; the first that finds it silent takes the lock and writes the first commit.
 *
 * @param {{ readonly servers: number, readonly seed: number }} fleet
 */
export function simulateTakeover({ servers, seed }) {
  const random = createRandom(seed);
  const sinceBeat = random.next() * 0.5;
  const patience = Array.from(
    { length: servers - 1 },
    () => 1.5 + random.next() * 0.25 + random.next() * 0.2,
  );
  return Math.min(...patience) - sinceBeat + costs.electionSeconds;
}

/** @typedef {{ readonly at: number, readonly losses: number }} Attempt */

/** What comes next, of very many: a binary heap by time. */
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
 * @param {import('../../packages/demo/dist/company/random.js').Random} random
 * @param {number} perSecond
 */
function exponential(random, perSecond) {
  return -Math.log(1 - random.next()) / perSecond;
}
