import { signToken } from '../packages/server/dist/access/sign.js';

/** A user of the run. */
/** @typedef {{ readonly id: string, readonly username: string }} Viewer */

/** How long a token lasts, in milliseconds: most are renewed several times in a run. */
const usual = { leastMs: 15_000, mostMs: 60_000 };
const shortMs = 2_000;

/** Where the clients get their tokens from. */
export class Tokens {
  /** What becomes of tokens just now: they are as usual, they last for two seconds, or there are none. */
  /** @type {'usual' | 'short' | 'none'} */
  mode = 'usual';
  #secret;
  #chance;

  /**
   * @param {string} secret
   * @param {() => number} chance
   */
  constructor(secret, chance) {
    this.#secret = secret;
    this.#chance = chance;
  }

  /**
   * @param {Viewer} viewer
   * @param {number} [ttlMs]
   */
  async issue(viewer, ttlMs) {
    if (this.mode === 'none') throw new Error('No tokens are to be had just now');
    const usualMs = usual.leastMs + (usual.mostMs - usual.leastMs) * this.#chance();
    return await signToken({
      secret: this.#secret,
      userId: viewer.id,
      username: viewer.username,
      ttlMs: ttlMs ?? (this.mode === 'short' ? shortMs : usualMs),
    });
  }
}
