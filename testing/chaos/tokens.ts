import { signToken, type TestUser } from '../testkit/tokens.ts';

/** Lifetime of a token, in milliseconds: short enough that most are renewed several times in a run. */
const usual = { leastMs: 15_000, mostMs: 60_000 };
const shortMs = 2_000;

/** Issues the clients' tokens. */
export class TokenIssuer {
  /** Usual lifetime, a lifetime of two seconds, or no tokens. */
  mode: 'usual' | 'short' | 'none' = 'usual';
  readonly #secret: string;
  readonly #chance: () => number;

  constructor(secret: string, chance: () => number) {
    this.#secret = secret;
    this.#chance = chance;
  }

  /** `ttlMs`: default depends on the mode. Rejects while no tokens are issued. */
  async issue(user: TestUser, ttlMs?: number): Promise<string> {
    if (this.mode === 'none') throw new Error('The issuer of tokens is unavailable');
    const usualMs = usual.leastMs + (usual.mostMs - usual.leastMs) * this.#chance();
    const ttl = ttlMs ?? (this.mode === 'short' ? shortMs : usualMs);
    return await Promise.resolve(signToken(this.#secret, user, ttl));
  }
}
