import { once } from 'node:events';
import { type IncomingMessage, request as inClear } from 'node:http';
import { request as overTls, type RequestOptions } from 'node:https';
import type { ControlMessage, EventMessage, ServerMessage } from '@flagcast/protocol';
import { Refused } from './plain-client.js';

interface Block {
  readonly id: string | null;
  readonly message: ServerMessage;
}

/** Reads server-sent events as the standard has them: fields in blocks, which an empty line ends. */
export class EventStreamClient {
  readonly blocks: Block[] = [];
  readonly response: IncomingMessage;
  /** The value of the `retry` field, in milliseconds. */
  retryMs: number | null = null;
  /** Resolves when the stream has ended: true if the server ended it, false if it was cut off. */
  readonly ended: Promise<boolean>;
  #waiting: { fits: (message: ServerMessage) => boolean; resolve: (message: ServerMessage) => void }[] = [];

  private constructor(response: IncomingMessage) {
    this.response = response;
    this.ended = new Promise((resolve) => {
      response.once('close', () => resolve(response.complete));
    });
    response.on('error', () => undefined);
    response.setEncoding('utf8');
    let unread = '';
    response.on('data', (text: string) => {
      const blocks = (unread + text).split('\n\n');
      unread = blocks.pop() ?? '';
      for (const block of blocks) this.#take(block);
    });
  }

  /** Rejects with a Refused when the answer is not a stream. */
  static async open(
    httpUrl: string,
    query: Record<string, string> | string,
    headers: Record<string, string> = {},
    line: RequestOptions = {},
  ): Promise<EventStreamClient> {
    const url = `${httpUrl}/api/events?${new URLSearchParams(query).toString()}`;
    const request = httpUrl.startsWith('https:') ? overTls : inClear;
    const asked = request(url, {
      ...line,
      headers: { Accept: 'text/event-stream', ...headers },
      agent: false,
    });
    // The connection was cut off after the response.
    asked.on('error', () => undefined);
    asked.end();
    const [response] = (await once(asked, 'response')) as [IncomingMessage];
    if (response.statusCode === 200) return new EventStreamClient(response);
    const chunks: Buffer[] = [];
    for await (const chunk of response) chunks.push(chunk as Buffer);
    throw new Refused(response.statusCode ?? 0, Buffer.concat(chunks).toString('utf8'), response.headers);
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

  async message(fits: (message: ServerMessage) => boolean): Promise<ServerMessage> {
    const found = this.messages.find(fits);
    if (found !== undefined) return found;
    return await new Promise((resolve) => this.#waiting.push({ fits, resolve }));
  }

  async event(entityId: string): Promise<EventMessage> {
    return (await this.message(
      (message) => 'source' in message && message.entity_id === entityId,
    )) as EventMessage;
  }

  async control<Type extends ControlMessage['type']>(
    type: Type,
  ): Promise<Extract<ControlMessage, { type: Type }>> {
    return (await this.message((message) => !('source' in message) && message.type === type)) as Extract<
      ControlMessage,
      { type: Type }
    >;
  }

  #take(block: string): void {
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
    const message = JSON.parse(data) as ServerMessage;
    this.blocks.push({ id: fields.get('id') ?? null, message });
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const waiter of waiting) {
      if (waiter.fits(message)) waiter.resolve(message);
      else this.#waiting.push(waiter);
    }
  }
}
