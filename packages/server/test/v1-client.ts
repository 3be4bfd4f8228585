import {
  type ClientMessage,
  type ControlMessage,
  type EventMessage,
  type ServerMessage,
  subprotocol,
} from '@flagcast/protocol';
import type pg from 'pg';
import { type ClientOptions, WebSocket } from 'ws';
import { decodeCursor } from '../src/events/position.js';
import { Refused } from './plain-client.js';

type ControlType = ControlMessage['type'];
type Control<Type extends ControlType> = Extract<ControlMessage, { type: Type }>;
/** What answers a `subscribe`. */
export type Answer = Control<'caught_up' | 'resync' | 'error'>;

export interface TestChannel {
  readonly projectId: string;
  readonly environmentId: string;
}

interface Waiter {
  readonly fits: (message: ServerMessage) => boolean;
  readonly resolve: (message: ServerMessage) => void;
  readonly reject: (error: Error) => void;
}

/** A minimal client of flagcast.v1: it sends the messages of the test and keeps the received ones. */
export class V1Client {
  readonly messages: ServerMessage[] = [];
  /** The unparsed messages. */
  readonly texts: string[] = [];
  readonly socket: WebSocket;
  /** Resolves when the connection has ended. */
  readonly closed: Promise<{ code: number; reason: string }>;
  #waiting: Waiter[] = [];
  #hasEnded = false;

  private constructor(socket: WebSocket) {
    this.socket = socket;
    this.closed = new Promise((resolve) => {
      socket.once('close', (code, reason) => {
        this.#hasEnded = true;
        for (const { reject } of this.#waiting.splice(0)) reject(new Error(`closed with ${code}`));
        resolve({ code, reason: reason.toString('utf8') });
      });
    });
    socket.on('message', (data) => {
      const text = (data as Buffer).toString('utf8');
      const message = JSON.parse(text) as ServerMessage;
      this.texts.push(text);
      this.messages.push(message);
      const waiting = this.#waiting;
      this.#waiting = [];
      for (const waiter of waiting) {
        if (waiter.fits(message)) waiter.resolve(message);
        else this.#waiting.push(waiter);
      }
    });
  }

  /** Opens a socket; rejects with a Refused when the server answers with HTTP. The token goes as in a browser. */
  static async connect(
    wsUrl: string,
    options: {
      token?: string | undefined;
      query?: Record<string, string> | string;
      headers?: Record<string, string>;
      /** How the socket is made, e.g. whose certificate it trusts. */
      line?: ClientOptions;
    } = {},
  ): Promise<V1Client> {
    const { token, query = {}, headers = {}, line = {} } = options;
    const protocols = [subprotocol, ...(token === undefined ? [] : [`bearer.${token}`])];
    const socket = new WebSocket(`${wsUrl}?${new URLSearchParams(query).toString()}`, protocols, {
      ...line,
      headers,
    });
    const client = new V1Client(socket);
    await new Promise<void>((resolve, reject) => {
      socket.once('open', resolve);
      socket.once('error', reject);
      socket.once('unexpected-response', (_request, response) => {
        const chunks: Buffer[] = [];
        response.on('data', (chunk: Buffer) => chunks.push(chunk));
        response.on('end', () => {
          reject(
            new Refused(response.statusCode ?? 0, Buffer.concat(chunks).toString('utf8'), response.headers),
          );
        });
      });
    });
    // A connection that is cut during the test resolves `closed`.
    socket.on('error', () => undefined);
    return client;
  }

  /** The messages without heartbeats, which arrive at any time. */
  get withoutHeartbeats(): ServerMessage[] {
    return this.messages.filter(({ type }) => type !== 'heartbeat');
  }

  get events(): EventMessage[] {
    return this.messages.filter((message) => 'source' in message);
  }

  send(message: ClientMessage): void {
    this.socket.send(JSON.stringify(message));
  }

  /** Resolves with the first past or future message from index `from` on that matches. */
  async message(fits: (message: ServerMessage) => boolean, from = 0): Promise<ServerMessage> {
    const found = this.messages.slice(from).find(fits);
    if (found !== undefined) return found;
    if (this.#hasEnded) throw new Error('the connection has ended');
    return await new Promise((resolve, reject) => this.#waiting.push({ fits, resolve, reject }));
  }

  /** The first event about the entity. */
  async event(entityId: string): Promise<EventMessage> {
    return (await this.message(
      (message) => 'source' in message && message.entity_id === entityId,
    )) as EventMessage;
  }

  /** Resolves with the first control message of this type from index `from` on. */
  async control<Type extends ControlType>(type: Type, from = 0): Promise<Control<Type>> {
    return (await this.message(
      (message) => !('source' in message) && message.type === type,
      from,
    )) as Control<Type>;
  }

  /** Sends a message and resolves with the first later control message of these types. */
  async ask<Type extends ControlType>(message: ClientMessage, ...answers: Type[]): Promise<Control<Type>> {
    const from = this.messages.length;
    this.send(message);
    return (await this.message(
      (answer) => !('source' in answer) && (answers as string[]).includes(answer.type),
      from,
    )) as Control<Type>;
  }

  async subscribe({ projectId, environmentId }: TestChannel, cursor?: string): Promise<Answer> {
    const resume = cursor === undefined ? {} : { cursor };
    return await this.ask(
      { type: 'subscribe', project_id: projectId, env_id: environmentId, ...resume },
      'caught_up',
      'resync',
      'error',
    );
  }

  /** Subscribes, which must succeed; answers the cursor. */
  async caughtUp(channel: TestChannel, cursor?: string): Promise<string> {
    const answer = await this.subscribe(channel, cursor);
    if (answer.type !== 'caught_up') throw new Error(`not caught up: ${JSON.stringify(answer)}`);
    return answer.cursor;
  }

  /**
   * A heartbeat's cursor that covers all that has been committed. The first ones may lag behind: a cursor
   * covers nothing that a crash of the database could undo, and events that it does not cover may be repeated.
   */
  async settled(pool: pg.Pool): Promise<string> {
    const { rows } = await pool.query<{ xmax: string; open: string[] }>(
      `SELECT pg_snapshot_xmax(now.snapshot)::text AS xmax,
        ARRAY(SELECT pg_snapshot_xip(now.snapshot)::text) AS open
      FROM pg_current_snapshot() AS now(snapshot)`,
    );
    const xmax = BigInt(rows[0]?.xmax ?? 0);
    const open = new Set(rows[0]?.open.map(BigInt));
    for (;;) {
      const { cursor } = await this.control('heartbeat', this.messages.length);
      const position = decodeCursor(cursor);
      if (position === null || position.xmax < xmax) continue;
      // The cursor of an earlier read may have the same xmax, and list transactions that have committed since.
      const lagsBehind =
        position.listed === 'open' && position.xids.some((xid) => xid < xmax && !open.has(xid));
      if (!lagsBehind) return cursor;
    }
  }

  async close(): Promise<void> {
    this.socket.close();
    await this.closed;
  }
}
