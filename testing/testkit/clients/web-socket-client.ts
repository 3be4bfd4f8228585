import { type ClientOptions, WebSocket } from 'ws';
import { MessageClient } from './message-client.ts';
import { Refused } from './refused.ts';

export interface WebSocketClientOptions<Message> {
  readonly headers?: Readonly<Record<string, string>>;
  readonly protocols?: readonly string[];
  /** Options of the ws library, such as whose certificates it trusts. */
  readonly socketOptions?: ClientOptions;
  /** Called with each message, which is not kept then. */
  readonly onMessage?: ((message: Message) => void) | undefined;
}

/** A WebSocket connection. */
export abstract class WebSocketClient<Message extends object> extends MessageClient<Message> {
  /** The unparsed messages. */
  readonly texts: string[] = [];
  readonly socket: WebSocket;
  /** Resolves when the connection has ended. */
  readonly closed: Promise<{ readonly code: number; readonly reason: string }>;
  readonly #opened: Promise<void>;

  constructor(url: string, options: WebSocketClientOptions<Message>) {
    super();
    const { headers = {}, protocols = [], socketOptions = {}, onMessage } = options;
    const socket = new WebSocket(url, [...protocols], { ...socketOptions, headers });
    this.socket = socket;
    this.closed = new Promise((resolve) => {
      socket.once('close', (code, reason) => {
        this.log.end(`closed with ${code}`);
        resolve({ code, reason: reason.toString('utf8') });
      });
    });
    socket.on('message', (data) => {
      const text = (data as Buffer).toString('utf8');
      const message = JSON.parse(text) as Message;
      if (onMessage !== undefined) {
        onMessage(message);
        return;
      }
      this.texts.push(text);
      this.log.add(message);
    });
    this.#opened = new Promise((resolve, reject) => {
      socket.once('open', resolve);
      // A connection that is lost later resolves `closed`.
      socket.on('error', reject);
      socket.once('unexpected-response', (_request, response) => {
        void Refused.from(response).then(reject, reject);
      });
    });
  }

  /** Resolves when the connection is open. Rejects with a Refused if the server answers with HTTP. */
  protected async opened(): Promise<this> {
    await this.#opened;
    return this;
  }

  async close(): Promise<void> {
    this.socket.close();
    await this.closed;
  }
}
