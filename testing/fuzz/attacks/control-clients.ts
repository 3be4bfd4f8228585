import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import { WebSocket } from 'ws';
import type { BoundedRun } from '../../testkit/bounded-run.ts';
import type { BenchDatabase } from '../../testkit/postgres.ts';

/** What the control clients noticed of the attacks. */
export interface ControlClientFigures {
  readonly written: number;
  /** In the channel of the clients. */
  readonly events: number;
  /** The longest time from a commit to its event at the slower client. */
  readonly slowestMs: number;
  /** Events that a client did not receive, received twice, and that are not in the database. */
  readonly missing: number;
  readonly repeated: number;
  readonly unknown: number;
  /** Closed connections. */
  readonly closed: readonly string[];
}

const writeIntervalMs = 250;
const catchUpLimitMs = 15_000;

/** These fields identify an event within a run, in both dialects. */
const eventKeys = ['source', 'timestamp', 'entity', 'entity_id', 'action'] as const;

function keyOf(fields: Readonly<Record<string, unknown>>): string {
  return eventKeys.map((key) => String(fields[key])).join('|');
}

/**
 * Opens two well-behaved clients, one of each dialect, and changes a flag regularly. The attacks must not affect them. The
 * result stops writing, and compares what they received with the database.
 */
export async function startControlClients(
  run: BoundedRun,
  {
    url,
    token,
    database,
  }: { readonly url: string; readonly token: string; readonly database: BenchDatabase },
): Promise<() => Promise<ControlClientFigures>> {
  const { client, projectId, environmentId, environmentKey, featureId } = database;
  /** By entity_id. */
  const committedAtMs = new Map<string, number>();
  const closed: string[] = [];
  let [slowestMs, written] = [0, 0];
  const defer = (cleanUp: () => void): void => run.defer(async () => await Promise.resolve().then(cleanUp));

  /** Resolves with how often it has received each event. */
  const connect = async (dialect: 'plain' | 'flagcast.v1'): Promise<ReadonlyMap<string, number>> => {
    const events = new Map<string, number>();
    const address = `${url.replace('http', 'ws')}/api/ws?project_id=${projectId}&env=${environmentKey}`;
    const headers = { Authorization: `Bearer ${token}` };
    const socket = new WebSocket(address, dialect === 'plain' ? [] : [dialect], { headers });
    defer(() => socket.terminate());
    socket.on('message', (data: Buffer) => {
      const message = JSON.parse(data.toString('utf8')) as Record<string, unknown>;
      if (message['type'] === 'caught_up') socket.emit('caught-up');
      if (!('source' in message)) return;
      const key = keyOf(message);
      events.set(key, (events.get(key) ?? 0) + 1);
      const since = committedAtMs.get(String(message['entity_id']));
      if (since !== undefined) slowestMs = Math.max(slowestMs, performance.now() - since);
    });
    socket.on('error', (error) => closed.push(`${dialect}: ${error.message}`));
    socket.on('close', (code, reason) => closed.push(`${dialect}: ${code} ${reason.toString()}`));
    // A plain client is live as soon as it is connected.
    await once(socket, dialect === 'plain' ? 'open' : 'caught-up');
    return events;
  };
  const received = [await connect('plain'), await connect('flagcast.v1')];

  const write = async (): Promise<void> => {
    const entityId = randomUUID();
    // Taken before the commit, because a client may receive the event before the query returns.
    committedAtMs.set(entityId, performance.now());
    await client.query(
      `INSERT INTO audit_log (project_id, environment_id, feature_id, entity, entity_id, actor, username, action, new_value)
       VALUES ($1, $2, $3, 'feature', $4, 'user', 'control', 'update', '{"enabled": true}')`,
      [projectId, environmentId, featureId, entityId],
    );
    written += 1;
  };
  let writing = Promise.resolve();
  const timer = setInterval(() => {
    writing = writing
      .then(write)
      .catch((error: unknown) => run.fail(error instanceof Error ? error : new Error(String(error))));
  }, writeIntervalMs);
  defer(() => clearInterval(timer));

  return async () => {
    clearInterval(timer);
    await writing;
    const { rows } = await client.query<Record<string, unknown>>(
      `SELECT source, entity, entity_id::text, action,
         to_char(created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS timestamp
       FROM flagcast.v_realtime_events WHERE project_id = $1 AND environment_id::text = $2`,
      [projectId, environmentId],
    );
    const expected = new Set(rows.map(keyOf));
    const giveUpAtMs = performance.now() + catchUpLimitMs;
    const missing = (): number =>
      received.reduce((sum, events) => sum + [...expected].filter((key) => !events.has(key)).length, 0);
    while (missing() > 0 && performance.now() < giveUpAtMs) await delay(20);
    const all = received.flatMap((events) => [...events]);
    return {
      ...{ written, events: expected.size, slowestMs, missing: missing(), closed: [...closed] },
      repeated: all.filter(([, times]) => times > 1).length,
      unknown: all.filter(([key]) => !expected.has(key)).length,
    };
  };
}
