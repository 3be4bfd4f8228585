import { setTimeout as delay } from 'node:timers/promises';
import { serveParent } from '../../bench/child.js';
import { SeededRandom } from '../random.js';
import { Attempt } from './attempt.js';
import { frames } from './frames.js';
import { handshakes } from './handshakes.js';
import { requests } from './http.js';
import { slow } from './slow.js';

/** @import { RawConnection } from './raw-connection.js' */
/** @import { Target } from './requests.js' */

/**
 * @typedef {{ index: number, kind: string, name: string, problem: string, sent: string }} AttackFault
 * `sent`: the first 64 kB of what was written, in hex, a list of the connections.
 */

/**
 * What a stretch of attacks came to: how many of each name and outcome, as `kind: name: outcome`.
 *
 * @typedef {{ outcomes: Record<string, number>, faults: AttackFault[], held: number, endedByServer: number }} StretchResult
 */

/**
 * @typedef {{ type: 'attack', target: Target, seed: number, first: number, count: number, concurrency: number }
 *   | { type: 'let go' }} AttackerQuestion
 */

const attacks = [...handshakes, ...frames, ...slow, ...requests];
/** So many are held at the same time; who comes then takes the place of the first. */
const mostHeld = 2_000;
const dripIntervalMs = 1_000;

/** @type {Map<RawConnection, { drip: Buffer | null, dripped: number }>} */
const held = new Map();
let endedByServer = 0;

/**
 * @param {RawConnection} connection
 * @param {Buffer | null} drip
 */
function hold(connection, drip) {
  held.set(connection, { drip, dripped: 0 });
  const [oldest] = held.keys();
  if (held.size <= mostHeld || oldest === undefined) return;
  held.delete(oldest);
  oldest.drop();
}

function dripOn() {
  for (const [connection, state] of held) {
    if (connection.answer.end !== 'open') {
      endedByServer += 1;
      held.delete(connection);
      connection.drop();
    } else if (state.drip !== null && state.dripped < state.drip.length) {
      connection.write(state.drip.subarray(state.dripped, state.dripped + 1));
      state.dripped += 1;
    }
  }
}

/** @param {Extract<AttackerQuestion, { type: 'attack' }>} question */
async function attack({ target, seed, first, count, concurrency }) {
  /** @type {StretchResult} */
  const result = { outcomes: {}, faults: [], held: 0, endedByServer: 0 };
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
        // Those that were under way when it ended are the suspects, not the ones that came after.
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
  return { ...result, held: held.size, endedByServer };
}

async function letGo() {
  for (const connection of held.keys()) connection.drop();
  held.clear();
  // Until the sockets have gone.
  await delay(100);
  return endedByServer;
}

setInterval(dripOn, dripIntervalMs).unref();
serveParent(async (/** @type {AttackerQuestion} */ question) =>
  question.type === 'attack' ? await attack(question) : await letGo(),
);
