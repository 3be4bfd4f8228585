import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import type pg from 'pg';
import type { BoundedRun } from '../../testkit/bounded-run.ts';
import type { FlagIds } from '../../testkit/channel.ts';
import { nowMs } from '../../testkit/child.ts';
import { connect } from '../../testkit/postgres.ts';
import { insertAudit } from '../../testkit/writers.ts';

interface WriteOptions {
  /** Returns the channel of the next row. */
  readonly channel: () => FlagIds;
  /** Each session pauses at random up to so many milliseconds, by default not at all. */
  readonly pauseLimitMs?: number;
}

export async function connectMany(
  run: BoundedRun,
  url: string,
  count: number,
): Promise<readonly pg.Client[]> {
  return await Promise.all(
    Array.from({ length: count }, async () => await connect(run, url, 'bench writer')),
  );
}

/** Each session commits one audit row after another until the signal. Resolves with the commits per second of all. */
export async function commitUntil(
  signal: AbortSignal,
  sessions: readonly pg.Client[],
  { channel, pauseLimitMs = 0 }: WriteOptions,
): Promise<number> {
  const startedAtMs = nowMs();
  let commits = 0;
  const write = async (session: pg.Client) => {
    while (!signal.aborted) {
      if (pauseLimitMs > 0) await delay(Math.random() * pauseLimitMs);
      // Without BEGIN the statement is a transaction.
      await insertAudit(session, channel(), { entityId: randomUUID() });
      commits += 1;
    }
  };
  await Promise.all(sessions.map(write));
  return (commits * 1_000) / (nowMs() - startedAtMs);
}

/** Repeats `work` at a steady rate until the signal, without overlap. Resolves with how often. */
export async function repeatAtRate(
  perSecond: number,
  signal: AbortSignal,
  work: (number: number) => unknown,
): Promise<number> {
  const startedAtMs = nowMs();
  let number = 0;
  for (; !signal.aborted; number += 1) {
    await work(number);
    const restMs = startedAtMs + ((number + 1) * 1_000) / perSecond - nowMs();
    await delay(Math.max(1, restMs), undefined, { signal }).catch(() => undefined);
  }
  return number;
}
