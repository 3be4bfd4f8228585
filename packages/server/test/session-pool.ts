import { SessionPool } from '../src/postgres/session-pool.js';

/** A pool of one session, so that state which a statement leaves is visible to the next one. */
export function oneSession(url: string): SessionPool {
  return new SessionPool({ purpose: 'the test', limit: 1, database: { url }, queryTimeoutMs: 5_000 });
}
