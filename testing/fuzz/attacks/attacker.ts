import { setImmediate as nextTick } from 'node:timers/promises';
import { SeededRandom } from '../../testkit/random.ts';
import { Attempt } from './attempt.ts';
import { frames } from './frames.ts';
import { handshakes } from './handshakes.ts';
import { requests } from './http.ts';
import type { RawConnection } from '../../testkit/clients/raw-connection.ts';
import type { Target } from './requests.ts';
import { slow } from './slow.ts';

/** An attack that got a wrong answer, or none. */
export interface AttackFault {
  readonly index: number;
  readonly name: string;
  readonly problem: string;
  /** The first 64 kB that were written, in hex, separated by connection. */
  readonly sent: string;
}

const attacks = [...handshakes, ...frames, ...slow, ...requests];
const concurrency = 128;
/** Of held connections; a new one replaces the oldest. */
const maxHeld = 2_000;
const dripIntervalMs = 1_000;
/** Open files: held connections and current ones. */
export const attackerFiles = maxHeld + concurrency;

/** Attacks a server, and keeps some of the connections open. */
export class Attacker {
  readonly #target: Target;
  readonly #held = new Map<RawConnection, Buffer>();
  readonly #timer = setInterval(() => this.#drip(), dripIntervalMs);
  readonly faults: AttackFault[] = [];
  /** How often each outcome was seen, by `name: outcome`. */
  readonly outcomes: Record<string, number> = {};
  mostHeld = 0;
  /** The number of held connections that the server has closed. */
  closedByServer = 0;
  #isServerGone = false;

  constructor(target: Target) {
    this.#target = target;
  }

  /** Makes the attacks with the numbers from `first`; fewer if the server refuses connections. */
  async attack({ seed, first, count }: { seed: number; first: number; count: number }): Promise<void> {
    let next = first;
    const worker = async (): Promise<void> => {
      while (next < first + count && !this.#isServerGone) {
        next += 1;
        await this.#attackOnce(seed, next - 1);
      }
    };
    await Promise.all(Array.from({ length: concurrency }, worker));
  }

  /** Closes the held connections. */
  async release(): Promise<void> {
    for (const connection of this.#held.keys()) connection.drop();
    this.#held.clear();
    await nextTick();
  }

  async end(): Promise<void> {
    clearInterval(this.#timer);
    await this.release();
  }

  async #attackOnce(seed: number, index: number): Promise<void> {
    const random = new SeededRandom(seed, index);
    const { name, run } = random.pick(attacks);
    const attempt = new Attempt(random, this.#target, this.#held);
    let outcome;
    try {
      await run(attempt);
      attempt.check();
      outcome = attempt.outcome();
    } catch (error) {
      // Attacks that started after the end of the server did not cause it.
      if (attempt.connections.some((connection) => connection.isServerGone)) {
        this.#isServerGone = true;
        return;
      }
      outcome = 'FAULT';
      const problem = error instanceof Error ? error.message : String(error);
      const sent = attempt.connections.map(({ writtenHex }) => writtenHex).join(' ');
      this.faults.push({ index, name, problem, sent });
    } finally {
      attempt.end();
      this.mostHeld = Math.max(this.mostHeld, this.#held.size);
      for (const connection of [...this.#held.keys()].slice(0, -maxHeld)) {
        this.#held.delete(connection);
        connection.drop();
      }
    }
    const key = `${name}: ${outcome}`;
    this.outcomes[key] = (this.outcomes[key] ?? 0) + 1;
  }

  /** Writes a byte to each held connection, and counts those that the server has closed. */
  #drip(): void {
    for (const [connection, drip] of this.#held) {
      if (connection.answer.end !== 'open') {
        this.closedByServer += 1;
        this.#held.delete(connection);
        connection.drop();
      } else if (drip.length > 0) {
        connection.write(drip.subarray(0, 1));
        this.#held.set(connection, drip.subarray(1));
      }
    }
  }
}
