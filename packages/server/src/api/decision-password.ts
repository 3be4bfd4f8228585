import type { Queries } from '../postgres/session-pool.js';
import { isBcrypt, verifyBcrypt } from '../auth/bcrypt.js';
import { verifyPassword } from '../auth/password.js';
import { isMissing } from '../postgres/errors.js';
import { scrub } from '../describe.js';
import { HttpProblem } from '../http-problem.js';
import { readTogglrFeatures } from '../host/togglr-features.js';
import { inAttempt, type SignInAttempts } from '../auth/sign-in-attempts.js';

/** What a user has to give with a decision: nothing, the password, or nothing that would do. */
type Proof =
  | { readonly kind: 'direct' }
  | { readonly kind: 'password'; readonly hash: string }
  | { readonly kind: 'elsewhere'; readonly why: string };

/**
 * Asks for the user's password with each decision in the database of a Togglr, as Togglr does. How the user was
 * identified does not matter: the password is that of the table users. A user whose password cannot be checked here,
 * or who has a second factor, is sent to Togglr's own console.
 */
export class DecisionPassword {
  readonly #pool: Queries;
  readonly #attempts: SignInAttempts;

  constructor(pool: Queries, attempts: SignInAttempts) {
    this.#pool = pool;
    this.#attempts = attempts;
  }

  /** What a decision of this user asks for. Rejects with the database's errors. */
  async mode(userId: string): Promise<Proof['kind']> {
    return (await this.#proofOf(userId)).kind;
  }

  /** Throws HttpProblem unless the password is right, or none is asked for. */
  async require(
    user: { readonly id: string; readonly username: string },
    password: string | undefined,
    address: string,
  ): Promise<void> {
    const proof = await this.#proofOf(user.id);
    if (proof.kind === 'direct') return;
    if (proof.kind === 'elsewhere') {
      throw new HttpProblem(
        403,
        'decide_elsewhere',
        `${proof.why}: decide on this request in Togglr's own console`,
      );
    }
    if (password === undefined) {
      throw new HttpProblem(
        403,
        'password_required',
        'A decision needs your password again: send it as password',
      );
    }
    const check = isBcrypt(proof.hash) ? verifyBcrypt : verifyPassword;
    const attempt = { username: user.username, address };
    if (!(await inAttempt(this.#attempts, attempt, async () => await check(password, proof.hash)))) {
      throw new HttpProblem(403, 'password_wrong', 'The password is wrong: nothing was decided, try again');
    }
    this.#attempts.forget(user.username, address);
  }

  async #proofOf(userId: string): Promise<Proof> {
    const { togglr, twoFactor } = await readTogglrFeatures(this.#pool);
    if (!togglr) return { kind: 'direct' };
    try {
      const { rows } = await this.#pool.query<{ hash: string | null; twoFactor: boolean | null }>(
        `SELECT u.password_hash::text AS hash, ${twoFactor ? 'u.two_fa_enabled' : 'false'} AS "twoFactor"
         FROM public.users u WHERE u.id = $1::bigint`,
        [userId],
      );
      const [user] = rows;
      const hash = user?.hash ?? '';
      if (user?.twoFactor !== false) {
        return { kind: 'elsewhere', why: 'You have a second factor, which this server does not ask for' };
      }
      if (isBcrypt(hash) || hash.startsWith('scrypt$')) return { kind: 'password', hash };
      return { kind: 'elsewhere', why: 'Your password cannot be checked by this server' };
    } catch (error) {
      if (!isMissing(error)) throw error;
      return {
        kind: 'elsewhere',
        why: `This server may not read password_hash and two_fa_enabled of the table users (${scrub(error.message)})`,
      };
    }
  }
}
