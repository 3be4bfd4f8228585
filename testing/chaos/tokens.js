import { signToken } from '../../packages/server/dist/auth/sign-token.js';

/** A user of the run. */
/** @typedef {{ readonly id: string, readonly username: string }} Viewer */

/** Lifetime of a token, in milliseconds: short enough that most are renewed several times in a run. */
const usual = { leastMs: 15_000, mostMs: 60_000 };
const shortMs = 2_000;

/** Issues the clients' tokens. */
export class Tokens {
  /** @type {'usual' | 'short' | 'none'} usual lifetime, a lifetime of two seconds, or no tokens */
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
    if (this.mode === 'none') throw new Error('The issuer of tokens is unavailable');
    const usualMs = usual.leastMs + (usual.mostMs - usual.leastMs) * this.#chance();
    return await signToken({
      secret: this.#secret,
      userId: viewer.id,
      username: viewer.username,
      ttlMs: ttlMs ?? (this.mode === 'short' ? shortMs : usualMs),
    });
  }
}
