import { setTimeout as delay } from 'node:timers/promises';
import type { ClientMessage, ControlMessage, PlainMessage, ServerMessage } from '@flagcast/protocol';
import { isFeed, type TestChannel } from '../channel.ts';
import { proxyName } from '../faulty-proxy.ts';
import { plainKey, receive, type Segment } from '../segment.ts';
import { EventStreamClient } from './event-stream-client.ts';
import { PlainClient } from './plain-client.ts';
import { RecordingClient, type RecordingClientOptions } from './recording-client.ts';
import { Refused } from './refused.ts';
import { V1Client } from './v1-client.ts';
import type { WebSocketClient } from './web-socket-client.ts';

/** How a client reads: always, for a short time every second, or with long pauses. */
export type ReadRate = 'steady' | 'slow' | 'pausing';

/** One connection. */
interface Connection {
  /** Resolves when the connection has ended. */
  readonly ended: Promise<unknown>;
  readonly pause: () => void;
  readonly resume: () => void;
  readonly terminate: () => void;
  readonly ping: () => void;
}

const pingIntervalMs = 2_000;
/** The client reconnects after this time without data, in milliseconds; the server of chaos sends some every second. */
const idleTimeoutMs = 6_000;
const handshakeTimeoutMs = 10_000;
const socketOptions = { handshakeTimeout: handshakeTimeoutMs, perMessageDeflate: false };

/** A client of one channel or feed, without the client library. */
abstract class ReconnectingClient extends RecordingClient {
  /** Of the feed: sent back to resume. */
  protected scope: string | null = null;
  readonly #closing = new AbortController();
  readonly #rate: ReadRate;
  #connection: Connection | null = null;
  #reads = true;
  #lastReceivedAtMs = 0;
  #readTimer: NodeJS.Timeout | undefined;

  constructor(options: RecordingClientOptions, channel: TestChannel, rate: ReadRate) {
    super(options, [channel]);
    this.#rate = rate;
    const ticker = setInterval(() => this.#tick(), pingIntervalMs);
    this.#closing.signal.addEventListener('abort', () => clearInterval(ticker));
    if (rate !== 'steady') this.#toggleReading(true);
    void this.#run(channel);
  }

  protected abstract connect(channel: TestChannel, token: string): Promise<Connection>;

  override readAtFullSpeed(): void {
    clearTimeout(this.#readTimer);
    this.#setReads(true);
  }

  close(): void {
    this.#closing.abort();
    clearTimeout(this.#readTimer);
    this.#connection?.terminate();
  }

  /** Each connection calls this for each message. */
  protected received(): void {
    this.#lastReceivedAtMs = Date.now();
  }

  /** The channel as a query: half of the clients use the environment's key, half its id. */
  protected query(channel: TestChannel): Record<string, string> {
    if (isFeed(channel)) {
      return { feed: 'approvals', ...(this.scope === null ? {} : { scope: this.scope }) };
    }
    const { projectId, environmentId, env } = channel;
    return { project_id: projectId, ...(this.options.index % 2 === 1 ? { env_id: environmentId } : { env }) };
  }

  async #run(channel: TestChannel): Promise<void> {
    const { signal } = this.#closing;
    while (!signal.aborted) {
      try {
        const connection = await this.connect(channel, await this.options.getToken());
        this.#connection = connection;
        if (this.#isClosed()) connection.terminate();
        this.note('connected');
        this.received();
        if (!this.#reads) connection.pause();
        await connection.ended;
      } catch (error) {
        const isRefused = error instanceof Refused;
        if (isRefused && error.headers['server'] === proxyName)
          this.note(`the proxy answers ${error.status}`);
        else if (isRefused) this.rejected(error.status, error.body.code ?? '', channel);
        else this.note('did not connect');
      }
      this.#connection = null;
      await delay(300 + 700 * this.options.chance(), undefined, { signal }).catch(() => undefined);
    }
  }

  #isClosed(): boolean {
    return this.#closing.signal.aborted;
  }

  protected connectionOf({ socket, closed }: Pick<WebSocketClient<object>, 'socket' | 'closed'>): Connection {
    return {
      ended: closed.then(({ code, reason }) => {
        if (code === 1006) this.note('lost the connection');
        else this.rejected(code, reason);
      }),
      pause: () => socket.pause(),
      resume: () => socket.resume(),
      terminate: () => socket.terminate(),
      ping: () => socket.send('{"type":"ping"}', () => undefined),
    };
  }

  #tick(): void {
    if (this.#connection === null || (!this.#reads && this.#rate === 'pausing')) return;
    if (Date.now() - this.#lastReceivedAtMs > idleTimeoutMs) {
      this.note('idle time-out');
      this.#connection.terminate();
    } else this.#connection.ping();
  }

  #toggleReading(reads: boolean): void {
    this.#setReads(reads);
    const slow = reads ? 20 : 980;
    const pausing = (reads ? 4_000 : 25_000) * (0.3 + this.options.chance());
    this.#readTimer = setTimeout(() => this.#toggleReading(!reads), this.#rate === 'slow' ? slow : pausing);
  }

  #setReads(reads: boolean): void {
    this.#reads = reads;
    this.received();
    if (reads) this.#connection?.resume();
    else this.#connection?.pause();
  }
}

/** A client that implements only the plain dialect: events of eight keys, and no resume. */
export class ReconnectingPlainClient extends ReconnectingClient {
  protected async connect(channel: TestChannel, token: string): Promise<Connection> {
    let segment: Segment | null = null;
    const open = (): Segment => (segment ??= this.openSegment(channel, 'plain'));
    const client = await PlainClient.connect(webSocketUrl(this.options), this.query(channel), {
      ...{ token, socketOptions },
      onMessage: (message) => this.#receive(open(), message),
    });
    open();
    void client.closed.then(() => {
      open().untilMs = Date.now();
    });
    return this.connectionOf(client);
  }

  #receive(segment: Segment, event: PlainMessage | { readonly type: 'pong' }): void {
    this.received();
    if (!('source' in event)) return;
    const { projectId, keys, env } = segment.channel;
    if (event.project_id !== projectId || !(keys ?? [env]).includes(event.environment)) {
      this.violations.push(
        `it received an event of project ${event.project_id}, environment ${event.environment}`,
      );
    }
    receive(segment, plainKey(event));
  }
}

/** A client that resumes. It drops events that were received before the last reconnect, as the protocol requires. */
abstract class ResumingClient extends ReconnectingClient {
  protected cursor: string | null = null;
  /** The open segment, which continues over reconnects. */
  #segment: Segment | null = null;

  /** Returns the handler of the messages of one connection, with their cursors. `end` ends the connection. */
  protected handler(
    channel: TestChannel,
    end: () => void,
  ): (message: ServerMessage, cursor: string | null) => void {
    const receivedIds = new Set<string>();
    let isOver = false;
    return (message, cursor) => {
      this.received();
      if (isOver) return;
      isOver = !this.#receive(message, channel, receivedIds);
      if (isOver) end();
      else this.cursor = cursor ?? this.cursor;
    };
  }

  /** Returns whether the connection continues. */
  #receive(message: ServerMessage, channel: TestChannel, receivedIds: Set<string>): boolean {
    if (!('source' in message)) return this.#receiveControl(message, channel);
    const { id } = message;
    if (receivedIds.has(id)) this.violations.push(`it received event ${id} twice on one connection`);
    receivedIds.add(id);
    if (this.#segment !== null && !this.#segment.keys.has(id)) receive(this.#segment, id, message);
    return true;
  }

  #receiveControl(message: ControlMessage, channel: TestChannel): boolean {
    const { type } = message;
    if (type === 'caught_up') {
      this.noteCursor('is caught up', message.cursor);
      this.#segment ??= this.openSegment(channel, 'id');
      this.scope = message.scope ?? null;
    } else if (type === 'close') this.rejected(message.code, message.reason);
    else if (type === 'error') this.note(`error: ${message.code}`);
    else if (type === 'resync') {
      this.note(`resync: ${message.reason}`);
      if (this.#segment !== null) this.#segment.untilMs = Date.now();
      this.#segment = null;
      this.cursor = null;
    }
    return type !== 'close' && type !== 'error' && type !== 'resync';
  }
}

/** A client of server-sent events, which resumes with Last-Event-ID. */
export class ReconnectingStreamClient extends ResumingClient {
  protected async connect(channel: TestChannel, token: string): Promise<Connection> {
    const resume = this.cursor === null ? {} : { 'Last-Event-ID': this.cursor };
    this.noteCursor('subscribes', this.cursor);
    const headers = { Authorization: `Bearer ${token}`, ...resume };
    const limit = new AbortController();
    const timer = setTimeout(() => limit.abort(), handshakeTimeoutMs);
    const handle = this.handler(channel, () => stream.response.destroy());
    const stream = await EventStreamClient.open(this.options.baseUrl, this.query(channel), headers, {
      signal: limit.signal,
      onBlock: ({ id, message }) => handle(message, id),
    }).finally(() => clearTimeout(timer));
    const { response } = stream;
    return {
      ended: stream.ended.then((isComplete) =>
        this.note(isComplete ? 'the stream ended' : 'lost the connection'),
      ),
      pause: () => void response.pause(),
      resume: () => void response.resume(),
      terminate: () => void response.destroy(),
      ping: () => undefined,
    };
  }
}

/** A client of flagcast.v1 with one channel or the approvals feed. */
export class ReconnectingV1Client extends ResumingClient {
  protected async connect(channel: TestChannel, token: string): Promise<Connection> {
    let isCaughtUp = false;
    const handle = this.handler(channel, () => client.socket.terminate());
    const client = await V1Client.connect(webSocketUrl(this.options), {
      ...{ token, socketOptions },
      onMessage: (message) => {
        isCaughtUp ||= message.type === 'caught_up';
        // Before `caught_up` only the cursors of events are valid.
        const isValid = 'cursor' in message && (isCaughtUp || 'source' in message);
        handle(message, isValid ? (message.cursor ?? null) : null);
      },
    });
    const resume = this.cursor === null ? {} : { cursor: this.cursor };
    this.noteCursor('subscribes', this.cursor);
    client.send({ type: 'subscribe', ...this.query(channel), ...resume } as ClientMessage);
    return this.connectionOf(client);
  }
}

function webSocketUrl({ baseUrl }: RecordingClientOptions): string {
  return `${baseUrl.replace('http', 'ws')}/api/ws`;
}
