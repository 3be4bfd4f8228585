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
    options: { token?: string; headers?: Record<string, string>; protocols?: string[] } = {},
  ): Promise<PlainClient> {
    const headers = {
      ...(options.token === undefined ? {} : { Authorization: `Bearer ${options.token}` }),
      ...options.headers,
    };
    const url = `${wsUrl}?${new URLSearchParams(query).toString()}`;
    const socket = new WebSocket(url, options.protocols ?? [], { headers });
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

  /** The first message that fits, received already or still to come. */
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
