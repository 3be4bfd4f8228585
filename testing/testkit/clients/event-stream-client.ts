import { type IncomingMessage, request as httpRequest } from 'node:http';
import { request as httpsRequest, type RequestOptions } from 'node:https';
import type { ControlMessage, EventMessage, ServerMessage } from '@flagcast/protocol';
import { MessageLog } from '../message-log.ts';
import { Refused } from './refused.ts';

/** A message with the cursor that the client sends when it resumes after it. */
export interface Block {
  readonly id: string | null;
  readonly message: ServerMessage;
}

interface OpenOptions extends Omit<RequestOptions, 'headers'> {
  readonly headers: Readonly<Record<string, string>>;
  readonly body?: string;
  readonly onBlock?: (block: Block) => void;
}

/** One stream of server-sent events, parsed as the standard says: fields in blocks, which an empty line ends. */
export class EventStreamClient implements AsyncDisposable {
  readonly response: IncomingMessage;
  /** The value of the `retry` field, in milliseconds. */
  retryMs: number | null = null;
  /** Resolves when the stream has ended: true if the server ended it, false if it was cut off. */
  readonly ended: Promise<boolean>;
  readonly #log = new MessageLog<Block>();
  readonly #onBlock: (block: Block) => void;

  private constructor(response: IncomingMessage, onBlock?: (block: Block) => void) {
    this.response = response;
    this.#onBlock = onBlock ?? ((block) => this.#log.add(block));
    this.ended = new Promise((resolve) => {
      response.once('close', () => {
        this.#log.end('the stream has ended');
        resolve(response.complete);
      });
    });
    response.on('error', () => undefined);
    response.setEncoding('utf8');
    let unread = '';
    response.on('data', (text: string) => {
      const blocks = (unread + text).split('\n\n');
      unread = blocks.pop() ?? '';
      for (const block of blocks) this.#receive(block);
    });
  }

  /**
   * Rejects with a Refused when the response is not a stream. `requestOptions`: such as whose certificates are trusted.
   * `onBlock`: called with each block, which is not kept then.
   */
  static async open(
    httpUrl: string,
    query: Readonly<Record<string, string>> | string,
    headers: Readonly<Record<string, string>> = {},
    requestOptions: RequestOptions = {},
    onBlock?: (block: Block) => void,
  ): Promise<EventStreamClient> {
    const parameters = new URLSearchParams(query).toString();
    return await EventStreamClient.#open(`${httpUrl}/api/events?${parameters}`, {
      ...requestOptions,
      headers,
      ...(onBlock === undefined ? {} : { onBlock }),
    });
  }

  /** Opens one stream of several channels, and of the feed. Rejects as `open`. */
  static async openAll(
    httpUrl: string,
    subscribe: readonly object[],
    headers: Readonly<Record<string, string>> = {},
  ): Promise<EventStreamClient> {
    return await EventStreamClient.#open(`${httpUrl}/api/events`, {
      method: 'POST',
      headers: { 'Content-Type': 'application/json', ...headers },
      body: JSON.stringify({ subscribe }),
    });
  }

  static async #open(url: string, { onBlock, body, ...options }: OpenOptions): Promise<EventStreamClient> {
    const send = url.startsWith('https:') ? httpsRequest : httpRequest;
    const request = send(url, {
      ...options,
      headers: { Accept: 'text/event-stream', ...options.headers },
      agent: false,
    });
    const response = await new Promise<IncomingMessage>((resolve, reject) => {
      request.once('response', resolve);
      // A stream that is cut off later resolves `ended`.
      request.on('error', reject);
      request.end(body);
    });
    if (response.statusCode === 200) return new EventStreamClient(response, onBlock);
    throw await Refused.from(response);
  }

  get blocks(): readonly Block[] {
    return this.#log.messages;
  }

  get messages(): ServerMessage[] {
    return this.blocks.map(({ message }) => message);
  }

  /** The messages without heartbeats, which arrive at any time. */
  get withoutHeartbeats(): ServerMessage[] {
    return this.messages.filter(({ type }) => type !== 'heartbeat');
  }

  get events(): EventMessage[] {
    return this.messages.filter((message) => 'source' in message);
  }

  /** Resolves with the first past or future message that matches. */
  async message(fits: (message: ServerMessage) => boolean): Promise<ServerMessage> {
    return (await this.#log.find(({ message }) => fits(message))).message;
  }

  /** Resolves with the first event about the entity. */
  async event(entityId: string): Promise<EventMessage> {
    return (await this.message(
      (message) => 'source' in message && message.entity_id === entityId,
    )) as EventMessage;
  }

  /** Resolves with the first control message of this type. */
  async control<Type extends ControlMessage['type']>(
    type: Type,
  ): Promise<Extract<ControlMessage, { type: Type }>> {
    return (await this.message((message) => !('source' in message) && message.type === type)) as Extract<
      ControlMessage,
      { type: Type }
    >;
  }

  async close(): Promise<void> {
    this.response.destroy();
    await this.ended;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #receive(block: string): void {
    const fields = new Map(
      block.split('\n').map((line) => {
        const colon = line.indexOf(': ');
        return [line.slice(0, colon), line.slice(colon + 2)] as const;
      }),
    );
    const retry = fields.get('retry');
    if (retry !== undefined) this.retryMs = Number(retry);
    const data = fields.get('data');
    if (data === undefined) return;
    this.#onBlock({ id: fields.get('id') ?? null, message: JSON.parse(data) as ServerMessage });
  }
}
