import { SessionPool } from '../src/postgres/session-pool.js';
import { SessionSlots } from '../src/postgres/session-slots.js';

/** A pool of one session, so that what a statement leaves there would be seen by the next one. */
export function oneSession(databaseUrl: string): SessionPool {
  const slots = new SessionSlots({ purpose: 'the test', limit: 1, waitTimeoutMs: 5_000 });
  return new SessionPool(slots, { databaseUrl, applicationName: 'test', queryTimeoutMs: 5_000 });
}
