import { randomUUID } from 'node:crypto';
import { decodeJwt } from 'jose';
import type { TokenOptions } from './auth-options.js';
import { hashPassword, isOutdated, verifyPassword } from './password.js';
import { signToken } from './sign-token.js';
import { parseUserClaim } from './user-claim.js';
import { isMissing } from '../postgres/errors.js';
import type { Queries } from '../postgres/session-pool.js';
import { HttpProblem } from '../http-problem.js';
import { inAttempt, type SignInAttempts } from './sign-in-attempts.js';

export interface SignInOptions {
  readonly pool: Queries;
  /** Where hashes that cost a guess too little are replaced; null where this server writes nothing. */
  readonly writePool: Queries | null;
  /** How tokens are checked, and so what is in those that are signed here; null where tokens or users come from elsewhere. */
  readonly auth: (TokenOptions & { readonly secret: string }) | null;
  readonly attempts: SignInAttempts;
  /** How long a token lasts, in milliseconds. */
  readonly tokenTtlMs: number;
}

/** Somebody who has signed in. */
export interface SignedIn {
  readonly token: string;
  /** RFC 3339, UTC. */
  readonly expires_at: string;
  readonly user: { readonly id: string; readonly username: string; readonly is_superuser: boolean };
}

interface Account {
  readonly id: string;
  readonly username: string;
  /** Null unless users are identified by it: a role may have no right to read it. */
  readonly email: string | null;
  readonly hash: string;
  readonly active: boolean;
  readonly superuser: boolean;
}

/** How long it is taken for granted whether there are passwords that can be checked, in milliseconds. */
const modeMaxAgeMs = 30_000;

/** Signs people in by user name and password, where the server itself signs the tokens. */
export class SignIn {
  readonly #options: SignInOptions;
  /** What the password of a user who does not exist is compared with. */
  #decoyHash: Promise<string> | null = null;
  #mode: { readonly answer: Promise<'password' | 'token'>; readonly staleAtMs: number } | null = null;

  constructor(options: SignInOptions) {
    this.#options = options;
  }

  /** Whether people sign in here with a password, or bring a token. */
  async mode(): Promise<'password' | 'token'> {
    if (this.#options.auth === null) return 'token';
    const nowMs = performance.now();
    if (this.#mode === null || this.#mode.staleAtMs <= nowMs) {
      const answer = this.#askMode();
      this.#mode = { answer, staleAtMs: nowMs + modeMaxAgeMs };
    }
    try {
      return await this.#mode.answer;
    } catch {
      // A database that does not answer is asked again; whoever signs in meanwhile is told.
      this.#mode = null;
      return 'password';
    }
  }

  /**
   * A token for whoever knows the password. A name that does not exist takes as long as a wrong
   * password and is answered alike. Throws HttpProblem, or what the database throws.
   */
  async signIn(username: string, password: string, address: string): Promise<SignedIn> {
    const { auth, attempts, tokenTtlMs } = this.#options;
    if (auth === null) {
      throw new HttpProblem(
        404,
        'login_elsewhere',
        'This server does not sign people in: bring a token of the service that does',
      );
    }
    if ((await this.mode()) === 'token') {
      throw new HttpProblem(
        404,
        'login_elsewhere',
        "The passwords of this database cannot be checked here: sign in where its users sign in, and bring that service's token",
      );
    }
    const account = await inAttempt(
      attempts,
      { username, address },
      async () => await this.#check(username, password),
    );
    if (account === null) {
      throw new HttpProblem(401, 'invalid_login', 'The user name or the password is wrong: try again');
    }
    if (!account.active) {
      throw new HttpProblem(403, 'user_inactive', 'This user has been deactivated: ask an administrator');
    }
    attempts.forget(username, address);
    const token = await signToken({
      ...auth,
      userId: account.id,
      username: account.username,
      email: account.email,
      ttlMs: tokenTtlMs,
    });
    return {
      token,
      expires_at: new Date((decodeJwt(token).exp ?? 0) * 1_000).toISOString(),
      user: { id: account.id, username: account.username, is_superuser: account.superuser },
    };
  }

  /**
   * Passwords can be checked where the column may be read and somebody has one that was hashed here. The
   * hash of one user alone must not decide it: the answer would tell which names exist.
   */
  async #askMode(): Promise<'password' | 'token'> {
    try {
      const { rows } = await this.#options.pool.query<{ anybody: boolean; ours: boolean }>(
        `SELECT EXISTS (SELECT FROM public.users) AS anybody,
           EXISTS (SELECT FROM public.users WHERE password_hash LIKE 'scrypt$%') AS ours`,
      );
      return rows[0]?.anybody === true && !rows[0].ours ? 'token' : 'password';
    } catch (error) {
      if (isMissing(error)) return 'token';
      throw error;
    }
  }

  async #check(username: string, password: string): Promise<Account | null> {
    const { userClaim } = this.#options.auth ?? {};
    const isByEmail = userClaim !== undefined && parseUserClaim(userClaim).column === 'email';
    const email = isByEmail ? 'email::text' : 'NULL';
    const { rows } = await this.#options.pool.query<Account>(
      `SELECT id::text AS id, username::text AS username, ${email} AS email, password_hash AS hash, is_active AS active, is_superuser AS superuser
       FROM public.users WHERE username = $1::text`,
      [username],
    );
    const [account] = rows;
    // Another scheme's hash is refused without any work, which would tell that the name exists.
    const ours = account?.hash.startsWith('scrypt$') ?? false;
    const hash = account !== undefined && ours ? account.hash : await this.#decoy();
    const matches = await verifyPassword(password, hash);
    // Also for a wrong password: a cheaper check would tell that the name exists.
    const newHash = isOutdated(hash) ? await hashPassword(password) : null;
    if (!matches || !ours || account === undefined) return null;
    if (newHash !== null && account.active) await this.#replaceHash(account, newHash);
    return account;
  }

  /** Nobody is kept out where the database does not take it: a role may have no right to. */
  async #replaceHash({ id, hash }: Account, newHash: string): Promise<void> {
    await this.#options.writePool
      ?.query('UPDATE public.users SET password_hash = $3 WHERE id = $1::bigint AND password_hash = $2', [
        id,
        hash,
        newHash,
      ])
      .catch(() => undefined);
  }

  async #decoy(): Promise<string> {
    this.#decoyHash ??= hashPassword(randomUUID());
    return await this.#decoyHash;
  }
}
