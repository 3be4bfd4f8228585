import type pg from 'pg';
import { readLockHolder } from '../install-lock.js';
import { advice, type Finding, sql } from './finding.js';

/** The table that could not be read because another session has locked it, and that session. */
export async function checkLock(client: pg.ClientBase): Promise<Finding> {
  const finding = {
    id: 'locks',
    level: 'error',
    consequence:
      'what needs the table could not be checked; until the lock is released, requests that read the table are answered with 503, and events are late',
  } as const;
  // The only mode that blocks reads.
  const holder = await readLockHolder(client, { tables: null, mode: 'AccessExclusiveLock' });
  if (holder === null) {
    return {
      ...finding,
      message: 'a table was locked by another session, which has released it meanwhile',
      fix: advice('run flagcast doctor again'),
    };
  }
  return {
    ...finding,
    message: `a table cannot be read: ${holder.name} holds ${holder.lock}`,
    fix: sql(`${holder.endStatement}; -- its uncommitted changes are lost`),
  };
}
