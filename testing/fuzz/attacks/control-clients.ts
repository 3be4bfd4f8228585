import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import { WebSocket } from 'ws';
import type { BoundedRun } from '../../testkit/bounded-run.ts';
import { isoUtc } from '../../testkit/history.ts';
import { pollUntil } from '../../testkit/poll.ts';
import type { BenchDatabase } from '../../testkit/postgres.ts';

const writeIntervalMs = 250;
const catchUpLimitMs = 15_000;
/** These fields identify an event within a run, in both dialects. */
const eventKeys = ['source', 'timestamp', 'entity', 'entity_id', 'action'] as const;

function keyOf(fields: Readonly<Record<string, unknown>>): string {
  return eventKeys.map((key) => String(fields[key])).join('|');
}

/** Two well-behaved clients, one of each dialect, and a writer. The attacks must not affect them. */
export class ControlClients {
  /** Of each client: how often it has received each event. */
  readonly #received: Map<string, number>[] = [];
  /** By entity_id. */
  readonly #committedAtMs = new Map<string, number>();
  readonly #closed: string[] = [];
  /** The longest time from a commit to its event at the slower client. */
  #slowestMs = 0;
  readonly #database: BenchDatabase;

  constructor(database: BenchDatabase) {
    this.#database = database;
  }

  async connect(run: BoundedRun, url: string, token: string, protocols: readonly string[]): Promise<void> {
    const { projectId, environmentKey } = this.#database;
    const address = `${url.replace('http', 'ws')}/api/ws?project_id=${projectId}&env=${environmentKey}`;
    const headers = { Authorization: `Bearer ${token}` };
    const socket = new WebSocket(address, [...protocols], { headers });
    run.defer(async () => await Promise.resolve().then(() => socket.terminate()));
    const events = new Map<string, number>();
    this.#received.push(events);
    socket.on('message', (data: Buffer) => {
      const message = JSON.parse(data.toString('utf8')) as Record<string, unknown>;
      if (message['type'] === 'caught_up') socket.emit('caught-up');
      if (!('source' in message)) return;
      events.set(keyOf(message), (events.get(keyOf(message)) ?? 0) + 1);
      const committedAtMs = this.#committedAtMs.get(String(message['entity_id'])) ?? Infinity;
      this.#slowestMs = Math.max(this.#slowestMs, performance.now() - committedAtMs);
    });
    socket.on('error', ({ message }) => this.#closed.push(message));
    socket.on('close', (code, reason) => this.#closed.push(`${code} ${reason.toString()}`));
    // A plain client is live as soon as it is connected.
    await once(socket, protocols.length === 0 ? 'open' : 'caught-up');
  }

  /** Changes a flag regularly until the signal is aborted. */
  async write(signal: AbortSignal): Promise<void> {
    const { client, projectId, environmentId, featureId } = this.#database;
    while (!signal.aborted) {
      const entityId = randomUUID();
      // Taken before the commit, because a client may receive the event before the query returns.
      this.#committedAtMs.set(entityId, performance.now());
      await client.query(
        `INSERT INTO audit_log (project_id, environment_id, feature_id, entity, entity_id, actor, username, action, new_value)
         VALUES ($1, $2, $3, 'feature', $4, 'user', 'control', 'update', '{"enabled": true}')`,
        [projectId, environmentId, featureId, entityId],
      );
      await delay(writeIntervalMs);
    }
  }

  /** Compares what the clients have received with the database: the number of events, and of deviations. */
  async compare() {
    const { client, projectId, environmentId } = this.#database;
    const { rows } = await client.query<Record<string, unknown>>(
      `SELECT source, entity, entity_id::text, action, ${isoUtc('created_at')} AS timestamp
       FROM flagcast.v_realtime_events WHERE project_id = $1 AND environment_id::text = $2`,
      [projectId, environmentId],
    );
    const expected = new Set(rows.map(keyOf));
    const missing = (): number =>
      this.#received.flatMap((events) => [...expected].filter((key) => !events.has(key))).length;
    await pollUntil(catchUpLimitMs, () => missing() === 0, { intervalMs: 20 });
    const received = this.#received.flatMap((events) => [...events]);
    const wrong = received.filter(([key, times]) => times > 1 || !expected.has(key)).length;
    const counts = { written: this.#committedAtMs.size, events: expected.size, missing: missing(), wrong };
    return { ...counts, closed: [...this.#closed], slowestMs: this.#slowestMs };
  }
}
