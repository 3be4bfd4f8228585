import { setTimeout as delay } from 'node:timers/promises';
import { serveParent } from '../../testkit/child.ts';
import { SeededRandom } from '../../testkit/random.ts';
import { Attempt } from './attempt.js';
import { frames } from './frames.js';
import { handshakes } from './handshakes.js';
import { requests } from './http.js';
import { slow } from './slow.js';

/** @import { RawConnection } from './raw-connection.js' */
/** @import { Target } from './requests.js' */

/**
 * @typedef {{ index: number, kind: string, name: string, problem: string, sent: string }} AttackFault
 * `sent`: the first 64 kB that were written, in hex, separated by connection.
 */

/**
 * The result of a batch of attacks. `outcomes`: counts by `kind: name: outcome`. `held`: open connections.
 * `closedByServer`: number of held connections that the server has closed.
 *
 * @typedef {{ outcomes: Record<string, number>, faults: AttackFault[], held: number, closedByServer: number }} BatchResult
 */

/**
 * @typedef {{ type: 'attack', target: Target, seed: number, first: number, count: number, concurrency: number }
 *   | { type: 'release' }} AttackerRequest
 */

const attacks = [...handshakes, ...frames, ...slow, ...requests];
/** Maximum number of held connections; a new one replaces the oldest. */
const maxHeld = 2_000;
const dripIntervalMs = 1_000;

/** @type {Map<RawConnection, { drip: Buffer | null, dripped: number }>} */
const held = new Map();
let closedByServer = 0;

/**
 * @param {RawConnection} connection
 * @param {Buffer | null} drip
 */
function hold(connection, drip) {
  held.set(connection, { drip, dripped: 0 });
  const [oldest] = held.keys();
  if (held.size <= maxHeld || oldest === undefined) return;
  held.delete(oldest);
  oldest.drop();
}

function drip() {
  for (const [connection, state] of held) {
    if (connection.answer.end !== 'open') {
      closedByServer += 1;
      held.delete(connection);
      connection.drop();
    } else if (state.drip !== null && state.dripped < state.drip.length) {
      connection.write(state.drip.subarray(state.dripped, state.dripped + 1));
      state.dripped += 1;
    }
  }
}

/** @param {Extract<AttackerRequest, { type: 'attack' }>} request */
async function attack({ target, seed, first, count, concurrency }) {
  /** @type {BatchResult} */
  const result = { outcomes: {}, faults: [], held: 0, closedByServer: 0 };
  let next = first;
  let isServerGone = false;
  const worker = async () => {
    while (next < first + count && !isServerGone) {
      const index = next;
      next += 1;
      const random = new SeededRandom(seed, index);
      const chosen = random.pick(attacks);
      const attempt = new Attempt(random, target, hold);
      let outcome;
      try {
        await chosen.run(attempt);
        attempt.check();
        outcome = attempt.outcome();
      } catch (error) {
        // Attacks that started after the end of the server did not cause it.
        if (attempt.connections.some((connection) => connection.isServerGone)) {
          isServerGone = true;
          break;
        }
        outcome = 'FAULT';
        const problem = error instanceof Error ? error.message : String(error);
        const sent = attempt.connections.map(({ writtenHex }) => writtenHex).join(' ');
        result.faults.push({ index, kind: chosen.kind, name: chosen.name, problem, sent });
      }
      attempt.end();
      const key = `${chosen.kind}: ${chosen.name}: ${outcome}`;
      result.outcomes[key] = (result.outcomes[key] ?? 0) + 1;
    }
  };
  await Promise.all(Array.from({ length: concurrency }, worker));
  return { ...result, held: held.size, closedByServer };
}

async function release() {
  for (const connection of held.keys()) connection.drop();
  held.clear();
  // Until the sockets are closed.
  await delay(100);
  return closedByServer;
}

setInterval(drip, dripIntervalMs).unref();
serveParent(async (/** @type {AttackerRequest} */ request) =>
  request.type === 'attack' ? await attack(request) : await release(),
);
