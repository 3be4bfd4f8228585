import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import type pg from 'pg';
import type { BoundedRun } from '../../testkit/bounded-run.ts';
import { nowMs } from '../../testkit/child.ts';
import { connect } from '../../testkit/postgres.ts';
import { type ChannelIds, insertRow } from './probe.ts';

interface WriteOptions {
  /** The number of sessions. */
  readonly count: number;
  /** Returns the channel of the next row. */
  readonly channel: () => ChannelIds;
  /** Each session pauses at random up to so many milliseconds, by default not at all. */
  readonly pauseLimitMs?: number;
  /** Receives the entity id of the row, and when its commit was sent. */
  readonly onCommit?: (entityId: string, sentAtMs: number) => void;
}

/** Sessions of the host that write audit rows. */
export class Writers {
  readonly #clients: readonly pg.Client[];

  private constructor(clients: readonly pg.Client[]) {
    this.#clients = clients;
  }

  static async open(run: BoundedRun, databaseUrl: string, most: number): Promise<Writers> {
    const opening = Array.from({ length: most }, async () => await connect(run, databaseUrl, 'bench writer'));
    return new Writers(await Promise.all(opening));
  }

  /** The sessions commit one row after another until the signal. Resolves with the commits per second. */
  async commitUntil(
    signal: AbortSignal,
    { count, channel, pauseLimitMs = 0, onCommit = () => undefined }: WriteOptions,
  ): Promise<number> {
    const startedAtMs = nowMs();
    let commits = 0;
    const write = async (client: pg.Client) => {
      while (!signal.aborted) {
        if (pauseLimitMs > 0) await delay(Math.random() * pauseLimitMs);
        const entityId = randomUUID();
        // Without BEGIN the statement is a transaction.
        onCommit(entityId, nowMs());
        await insertRow(client, channel(), entityId);
        commits += 1;
      }
    };
    await Promise.all(this.#clients.slice(0, count).map(write));
    return (commits * 1_000) / (nowMs() - startedAtMs);
  }

  /** Inserts the rows in one statement and returns its duration in milliseconds. */
  async insertMany({ featureId, projectId, environmentId }: ChannelIds, rows: number): Promise<number> {
    const startedAtMs = nowMs();
    await this.#clients[0]?.query(
      `INSERT INTO audit_log (feature_id, entity, entity_id, actor, username, action, project_id, environment_id)
      SELECT $1, 'feature', gen_random_uuid(), 'user', 'bench', 'update', $2, $3 FROM generate_series(1, $4::int)`,
      [featureId, projectId, environmentId, rows],
    );
    return nowMs() - startedAtMs;
  }
}

/** Repeats `work` at a steady rate until the signal, without overlap. Resolves with how often. */
export async function repeatAtRate(
  perSecond: number,
  signal: AbortSignal,
  work: (number: number) => Promise<void>,
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
