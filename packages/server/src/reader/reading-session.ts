import { createHash } from 'node:crypto';
import type pg from 'pg';
import { isPooled } from '../database/pooler.js';
import { discardSession, openSession } from '../database/session.js';
import { type Beginning, findBeginning } from './beginning.js';
import { type EventView, findEventView } from './event-view.js';
import { floorStatement, historyStatement, readStatement, sessionSettings } from './statements.js';
import type { FloorBounds, Tracker } from './tracker.js';

export interface History {
  readonly database: string;
  /** Null on a replica, which does not tell. */
  readonly timeline: string | null;
}

interface ObservedFloor {
  readonly floor: string;
  readonly sessionsVisible: boolean;
  readonly oldestTransactionMs: number;
}

export interface ReadingSessionOptions {
  readonly databaseUrl: string;
  readonly view: string | null;
  readonly queryTimeoutMs: number;
}

/** A connection to the database that reads events. Every method rejects with what the database throws. */
export class ReadingSession {
  readonly history: History;
  readonly view: EventView;
  readonly #client: pg.Client;
  /** Whether statements are prepared once in a session. Behind a pooler the next one finds another session. */
  readonly #keepsStatements: boolean;
  /** Whether each read tells the history it belongs to, because it may change while the connection lasts. */
  readonly #tellsHistory: boolean;

  private constructor(client: pg.Client, found: { history: History; view: EventView; isPooled: boolean }) {
    this.#client = client;
    this.history = found.history;
    this.view = found.view;
    this.#keepsStatements = !found.isPooled;
    // A pooler may lead to another server, and a replica be promoted, without a word.
    this.#tellsHistory = found.isPooled || found.history.timeline === null;
  }

  static async open(options: ReadingSessionOptions): Promise<ReadingSession> {
    const { databaseUrl, queryTimeoutMs } = options;
    const client = await openSession({ databaseUrl, applicationName: 'flagcast reader', queryTimeoutMs });
    try {
      const pooled = await isPooled(client);
      if (!pooled) await client.query(sessionSettings);
      const answer = await client.query<[string, string | null]>({
        text: historyStatement,
        rowMode: 'array',
      });
      const [database = '', timeline = null] = answer.rows[0] ?? [];
      const view = await findEventView(client, options.view);
      return new ReadingSession(client, { history: { database, timeline }, view, isPooled: pooled });
    } catch (error) {
      discardSession(client);
      throw error;
    }
  }

  /** Calls back when the connection is lost. */
  onceLost(callback: () => void): void {
    this.#client.once('end', callback);
  }

  async observeFloor(allowanceMs: number, bounds: FloorBounds): Promise<ObservedFloor> {
    const answer = await this.#client.query<[string, string, string]>({
      ...(this.#keepsStatements ? { name: 'flagcast_floor' } : {}),
      text: floorStatement,
      values: [allowanceMs, ...bounds],
      rowMode: 'array',
    });
    const [floor, visible, ageMs] = answer.rows[0] ?? ['', 'false', '0'];
    return { floor, sessionsVisible: visible === 'true', oldestTransactionMs: Number(ageMs) };
  }

  async findBeginning(): Promise<Beginning> {
    return await findBeginning(this.#client);
  }

  /** The rows that are unseen from these bounds on. */
  async select(bounds: ReturnType<Tracker['readBounds']>): Promise<(string | null)[][]> {
    const answer = await this.#client.query<(string | null)[]>({
      ...(this.#keepsStatements ? { name: 'flagcast_read' } : {}),
      ...readStatement(this.view, this.#tellsHistory),
      values: bounds,
    });
    return answer.rows;
  }

  /** The history that a row of `select` tells; null where it cannot have changed. */
  historyOf(row: readonly (string | null)[] = []): History | null {
    if (!this.#tellsHistory) return null;
    const [database, timeline = null] = row.slice(-2);
    return typeof database === 'string' ? { database, timeline } : null;
  }

  /** Says goodbye. */
  async end(): Promise<void> {
    await this.#client.end().catch(() => undefined);
  }

  /** Drops the connection without waiting for the other side. */
  discard(): void {
    discardSession(this.#client);
  }
}

/** The history and what is read of it, as cursors name them: positions of another one mean nothing here. */
export function historyId(history: History | null, { guarantee, isOwnDefinition, name }: EventView): string {
  const events = isOwnDefinition ? '' : `/${guarantee}/${name}`;
  return createHash('sha256')
    .update(`${history?.database ?? ''}/${history?.timeline ?? ''}${events}`)
    .digest('base64url')
    .slice(0, 12);
}
