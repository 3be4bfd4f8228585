import { randomUUID } from 'node:crypto';
import { type ConsoleContext, HttpProblem, isMissing, type Queries } from 'flagcast/support';
import { hashPassword, isOutdated, type ScryptCost, verifyPassword } from './password.js';
import type { SignInAttempts } from './sign-in-attempts.js';

export interface SignInOptions {
  readonly pool: Queries;
  /** To replace outdated hashes; null if this server writes nothing. */
  readonly writePool: Queries | null;
  /** Null if tokens or users come from elsewhere. */
  readonly tokens: ConsoleContext['tokens'];
  readonly attempts: SignInAttempts;
  /** Of new hashes; cheaper ones are replaced. */
  readonly passwordCost: ScryptCost;
}

/** The response to a sign-in. */
export interface SignedIn {
  readonly token: string;
  /** RFC 3339, UTC. */
  readonly expires_at: string;
  readonly user: { readonly id: string; readonly username: string; readonly is_superuser: boolean };
}

/** How users sign in: with a password here, or elsewhere, with a token. */
type SignInMode = 'password' | 'token';

interface Account {
  readonly id: string;
  readonly username: string;
  /** Null unless it identifies users: a role may have no right to read it. */
  readonly email: string | null;
  readonly hash: string;
  readonly active: boolean;
  readonly superuser: boolean;
}

const modeMaxAgeMs = 30_000;

/** Signs users in by name and password, if this server signs the tokens. */
export class SignIn {
  readonly #options: SignInOptions;
  /** Compared with the password of a user who does not exist. */
  #decoyHash: Promise<string> | null = null;
  #mode: { readonly value: Promise<SignInMode>; readonly staleAtMs: number } | null = null;
  /** The last mode that was read. */
  #knownMode: SignInMode = 'password';

  constructor(options: SignInOptions) {
    this.#options = options;
  }

  /** Cached for 30 s, because anyone may ask. While the database does not answer, the last one that was read. */
  async mode(): Promise<SignInMode> {
    if (this.#options.tokens === null) return 'token';
    const nowMs = performance.now();
    if (this.#mode === null || this.#mode.staleAtMs <= nowMs) {
      this.#mode = { value: this.#readMode(), staleAtMs: nowMs + modeMaxAgeMs };
    }
    try {
      this.#knownMode = await this.#mode.value;
    } catch {
      // The next call asks again; a sign-in with a password meanwhile fails with the error of the database.
      this.#mode = null;
    }
    return this.#knownMode;
  }

  /** An unknown name takes as long as a wrong password and gets the same answer. Throws HttpProblem, or the error of the database. */
  async signIn(username: string, password: string, address: string): Promise<SignedIn> {
    const { tokens, attempts } = this.#options;
    if (tokens === null) {
      throw signInElsewhere('This server does not sign users in: send a token from the service that does');
    }
    if ((await this.mode()) === 'token') {
      throw signInElsewhere(
        "The passwords of this database cannot be checked here: sign in where its users sign in, and bring that service's token",
      );
    }
    const attempt = { username, address };
    const account = await attempts.run(attempt, async () => await this.#check(username, password));
    if (account === null) {
      throw new HttpProblem('invalid_login', 'The user name or the password is wrong: try again');
    }
    if (!account.active) {
      throw new HttpProblem('user_inactive', 'This user has been deactivated: ask an administrator');
    }
    attempts.succeeded(attempt);
    const { id: userId, username: name, email, superuser } = account;
    const { token, expiresAt } = await tokens.sign({ userId, username: name, email });
    return {
      token,
      expires_at: expiresAt,
      user: { id: userId, username: name, is_superuser: superuser },
    };
  }

  /**
   * Passwords can be checked if the column is readable and some user has one that was hashed here. The hash of one user
   * must not decide it: the answer would reveal which names exist.
   */
  async #readMode(): Promise<SignInMode> {
    try {
      const { rows } = await this.#options.pool.query<{ isForeign: boolean }>(
        `SELECT EXISTS (SELECT FROM public.users)
           AND NOT EXISTS (SELECT FROM public.users WHERE password_hash LIKE 'scrypt$%') AS "isForeign"`,
      );
      return rows[0]?.isForeign === true ? 'token' : 'password';
    } catch (error) {
      if (isMissing(error)) return 'token';
      throw error;
    }
  }

  async #check(username: string, password: string): Promise<Account | null> {
    const isByEmail = this.#options.tokens?.needsEmail === true;
    const { rows } = await this.#options.pool.query<Account>(
      `SELECT id::text AS id, username::text AS username, ${isByEmail ? 'email::text' : 'NULL'} AS email,
         password_hash AS hash, is_active AS active, is_superuser AS superuser
       FROM public.users WHERE username = $1::text`,
      [username],
    );
    // A hash of another scheme would be refused without work, which would reveal that the name exists.
    const account = rows[0]?.hash.startsWith('scrypt$') === true ? rows[0] : null;
    const { passwordCost } = this.#options;
    const hash = account?.hash ?? (await (this.#decoyHash ??= hashPassword(randomUUID(), passwordCost)));
    const matches = await verifyPassword(password, hash);
    // Also for a wrong password: a faster answer would reveal that the name exists.
    const newHash = isOutdated(hash, passwordCost) ? await hashPassword(password, passwordCost) : null;
    if (!matches || account === null) return null;
    if (newHash !== null && account.active) await this.#replaceHash(account, newHash);
    return account;
  }

  /** Ignores errors: the role may have no right to write. */
  async #replaceHash({ id, hash }: Account, newHash: string): Promise<void> {
    await this.#options.writePool
      ?.query('UPDATE public.users SET password_hash = $3 WHERE id = $1::bigint AND password_hash = $2', [
        id,
        hash,
        newHash,
      ])
      .catch(() => undefined);
  }
}

function signInElsewhere(message: string): HttpProblem {
  return new HttpProblem('login_elsewhere', message);
}
