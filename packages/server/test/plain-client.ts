import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { type IncomingHttpHeaders, type IncomingMessage, request } from 'node:http';
import type { Socket } from 'node:net';
import type { PlainMessage } from '@flagcast/protocol';
import { WebSocket } from 'ws';

/** A client written to the specification and nothing else: it connects and collects messages. */
export class PlainClient {
  readonly messages: PlainMessage[] = [];
  readonly socket: WebSocket;
  /** Resolves when the connection has ended. */
  readonly closed: Promise<{ code: number; reason: string }>;
  #waiting: { fits: (message: PlainMessage) => boolean; resolve: (message: PlainMessage) => void }[] = [];

  private constructor(socket: WebSocket) {
    this.socket = socket;
    this.closed = new Promise((resolve) => {
      socket.once('close', (code, reason) => resolve({ code, reason: reason.toString('utf8') }));
    });
    socket.on('message', (data) => {
      const message = JSON.parse((data as Buffer).toString('utf8')) as PlainMessage;
      this.messages.push(message);
      const waiting = this.#waiting;
      this.#waiting = [];
      for (const waiter of waiting) {
        if (waiter.fits(message)) waiter.resolve(message);
        else this.#waiting.push(waiter);
      }
    });
  }

  /** Connects to `<wsUrl>?<query>`; rejects with a Refused when the server answers with HTTP. */
  static async connect(
    wsUrl: string,
    query: Record<string, string>,
    options: {
      token?: string;
      headers?: Record<string, string>;
      protocols?: string[];
      autoPong?: boolean;
    } = {},
  ): Promise<PlainClient> {
    const headers = {
      ...(options.token === undefined ? {} : { Authorization: `Bearer ${options.token}` }),
      ...options.headers,
    };
    const url = `${wsUrl}?${new URLSearchParams(query).toString()}`;
    const { protocols = [], autoPong = true } = options;
    const socket = new WebSocket(url, protocols, { headers, autoPong });
    const client = new PlainClient(socket);
    await new Promise<void>((resolve, reject) => {
      socket.once('open', resolve);
      socket.once('error', reject);
      socket.once('unexpected-response', (_request, response) => {
        const chunks: Buffer[] = [];
        response.on('data', (chunk: Buffer) => chunks.push(chunk));
        response.on('end', () => {
          const body = Buffer.concat(chunks).toString('utf8');
          reject(new Refused(response.statusCode ?? 0, body, response.headers));
        });
      });
    });
    return client;
  }

  /** Resolves with the first past or future message that matches. */
  async received(fits: (message: PlainMessage) => boolean): Promise<PlainMessage> {
    const found = this.messages.find(fits);
    if (found !== undefined) return found;
    return await new Promise((resolve) => this.#waiting.push({ fits, resolve }));
  }

  async close(): Promise<void> {
    this.socket.close();
    await this.closed;
  }
}

/** The response to an upgrade request that was written by hand. */
export interface Handshake {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  /** Of a refusal; empty after 101. */
  readonly body: string;
  /** Paused, with whatever followed the head unread in it; null unless the status is 101. */
  readonly socket: Socket | null;
}

/**
 * Sends an upgrade request with exactly this query string and these headers, over those of a good
 * handshake (null leaves one out). Nothing is read from or written to the socket afterwards.
 */
export async function handshake(
  wsUrl: string,
  query: string,
  headers: Record<string, string | null> = {},
): Promise<Handshake> {
  const all: Record<string, string | null> = {
    Connection: 'Upgrade',
    Upgrade: 'websocket',
    'Sec-WebSocket-Version': '13',
    'Sec-WebSocket-Key': randomBytes(16).toString('base64'),
    ...headers,
  };
  const { hostname, port, pathname } = new URL(wsUrl);
  const sent = request({
    hostname,
    port,
    path: query === '' ? pathname : `${pathname}?${query}`,
    headers: Object.fromEntries(
      Object.entries(all).flatMap(([name, value]) => (value === null ? [] : [[name, value]])),
    ),
    agent: false,
    setHost: all['Host'] !== null,
  });
  const answered = new Promise<[IncomingMessage, Socket | null]>((resolve, reject) => {
    sent.once('upgrade', (response, socket, head) => {
      socket.pause();
      socket.unshift(head);
      resolve([response, socket]);
    });
    sent.once('response', (response) => resolve([response, null]));
    sent.once('error', reject);
  });
  sent.end();
  const [response, socket] = await answered;
  const chunks: Buffer[] = [];
  if (socket === null) {
    response.on('data', (chunk: Buffer) => chunks.push(chunk));
    await once(response, 'end');
  }
  return {
    status: response.statusCode ?? 0,
    headers: response.headers,
    body: Buffer.concat(chunks).toString('utf8'),
    socket,
  };
}

/** The server's HTTP answer to a refused upgrade. */
export class Refused extends Error {
  readonly status: number;
  readonly body: { code?: string; message?: string };
  readonly headers: Record<string, string | string[] | undefined>;

  constructor(status: number, body: string, headers: Record<string, string | string[] | undefined>) {
    super(`refused with ${status}: ${body}`);
    this.status = status;
    this.body = JSON.parse(body) as { code?: string; message?: string };
    this.headers = headers;
  }
}
