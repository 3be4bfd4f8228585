import { setTimeout as delay } from 'node:timers/promises';
import type pg from 'pg';
import { positionStatement, toPosition } from './statements.js';

/** Where a reader begins: what was committed before is not news. */
export interface Beginning {
  /** Every transaction below this id has ended, and no crash takes the id back. */
  readonly watermark: bigint;
  /** The xmax of the snapshot that the watermark was taken from; 0 where it is older than that snapshot. */
  readonly horizon: bigint;
}

/** How often, and how many milliseconds apart, the log is asked whether it is on disk; it mostly is at once. */
const flushAttempts = 25;
const flushPauseMs = 20;

/** `epoch:id`; a checkpoint is on disk, and recovery begins behind it. */
const checkpointStatement = `SELECT split_part(next_xid, ':', 1), split_part(next_xid, ':', 2) FROM pg_control_checkpoint()`;

/**
 * Looks where the history stands. A crash can take the newest ids back (`watermark.ts`): so the log is waited
 * for, for half a second; where it is not on disk by then, because somebody has written and not committed
 * while nobody else did, the last checkpoint's ids are as far as one may go.
 */
export async function findBeginning(client: pg.Client): Promise<Beginning> {
  const ask = async (): Promise<ReturnType<typeof toPosition>> => {
    const { rows } = await client.query<(string | null)[]>({ text: positionStatement, rowMode: 'array' });
    return toPosition(rows[0] ?? []);
  };
  const begun = await ask();
  const { xmin, xmax, insertLsn } = begun;
  // A replica shows what its primary's log has brought, and hands out no ids.
  if (insertLsn === null) return { watermark: xmin, horizon: xmax };
  let { flushLsn } = begun;
  for (let attempt = 1; (flushLsn ?? insertLsn) < insertLsn; attempt += 1) {
    if (attempt === flushAttempts) return { watermark: await lastCheckpoint(client, xmin), horizon: 0n };
    await delay(flushPauseMs);
    ({ flushLsn } = await ask());
  }
  return { watermark: xmin, horizon: xmax };
}

async function lastCheckpoint(client: pg.Client, xmin: bigint): Promise<bigint> {
  const { rows } = await client.query<[string, string]>({ text: checkpointStatement, rowMode: 'array' });
  const [epoch = '0', id = '0'] = rows[0] ?? [];
  const next = (BigInt(epoch) << 32n) + BigInt(id);
  return next < xmin ? next : xmin;
}
