import { type IncomingMessage, request as httpRequest } from 'node:http';
import { request as httpsRequest, type RequestOptions } from 'node:https';
import type { ServerMessage } from '@flagcast/protocol';
import { MessageClient } from './message-client.ts';
import { Refused } from './refused.ts';

/** A message with the cursor that the client sends when it resumes after it. */
export interface Block {
  readonly id: string | null;
  readonly message: ServerMessage;
}

interface OpenOptions extends Omit<RequestOptions, 'headers'> {
  readonly headers: Readonly<Record<string, string>>;
}

/** One stream of server-sent events, parsed as the standard says: fields in blocks, which an empty line ends. */
export class EventStreamClient extends MessageClient<ServerMessage> {
  readonly response: IncomingMessage;
  /** The messages with their cursors. */
  readonly blocks: Block[] = [];
  /** The value of the `retry` field, in milliseconds. */
  retryMs: number | null = null;
  /** Resolves when the stream has ended: true if the server ended it, false if it was cut off. */
  readonly ended: Promise<boolean>;
  readonly #onBlock: (block: Block) => void;

  private constructor(response: IncomingMessage, onBlock?: (block: Block) => void) {
    super();
    this.response = response;
    this.#onBlock =
      onBlock ??
      ((block) => {
        this.blocks.push(block);
        this.log.add(block.message);
      });
    this.ended = new Promise((resolve) => {
      response.once('close', () => {
        this.log.end('the stream has ended');
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
   * Rejects with a Refused when the response is not a stream. Options: such as whose certificates are trusted; `onBlock` is
   * called with each block, which is not kept then.
   */
  static async open(
    httpUrl: string,
    query: Readonly<Record<string, string>> | string,
    headers: Readonly<Record<string, string>> = {},
    { onBlock, ...options }: RequestOptions & { readonly onBlock?: (block: Block) => void } = {},
  ): Promise<EventStreamClient> {
    const url = `${httpUrl}/api/events?${new URLSearchParams(query).toString()}`;
    return await EventStreamClient.#open(url, { ...options, headers }, { onBlock });
  }

  /** Opens one stream of several channels, and of the feed. Rejects as `open`. */
  static async openAll(
    httpUrl: string,
    subscribe: readonly object[],
    headers: Readonly<Record<string, string>> = {},
  ): Promise<EventStreamClient> {
    const options = { method: 'POST', headers: { 'Content-Type': 'application/json', ...headers } };
    return await EventStreamClient.#open(`${httpUrl}/api/events`, options, {
      body: JSON.stringify({ subscribe }),
    });
  }

  static async #open(
    url: string,
    { headers: own, ...options }: OpenOptions,
    { body, onBlock }: { readonly body?: string; readonly onBlock?: ((block: Block) => void) | undefined },
  ): Promise<EventStreamClient> {
    const send = url.startsWith('https:') ? httpsRequest : httpRequest;
    const headers = { Accept: 'text/event-stream', ...own };
    const request = send(url, { ...options, headers, agent: false });
    const response = await new Promise<IncomingMessage>((resolve, reject) => {
      request.once('response', resolve);
      // A stream that is cut off later resolves `ended`.
      request.on('error', reject);
      request.end(body);
    });
    if (response.statusCode === 200) return new EventStreamClient(response, onBlock);
    throw await Refused.from(response);
  }

  async close(): Promise<void> {
    this.response.destroy();
    await this.ended;
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
