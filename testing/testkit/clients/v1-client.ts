import {
  type ApprovalsSnapshot,
  type ClientMessage,
  type ControlMessage,
  type ServerMessage,
  subprotocol,
} from '@flagcast/protocol';
import type { ChannelIds } from '../channel.ts';
import { WebSocketClient, type WebSocketClientOptions } from './web-socket-client.ts';

type ControlType = ControlMessage['type'];
type Control<Type extends ControlType> = Extract<ControlMessage, { type: Type }>;
/** The answer to a `subscribe`. */
export type Answer = Control<'caught_up' | 'resync' | 'error'>;

/** Where the approvals feed can resume: at a snapshot, or at the answer to an earlier subscription. */
type FeedPosition = Pick<ApprovalsSnapshot, 'cursor' | 'scope'>;

export interface V1ClientOptions extends Omit<WebSocketClientOptions<ServerMessage>, 'protocols'> {
  readonly token?: string | undefined;
  readonly query?: Readonly<Record<string, string>> | string;
}

/** A connection in flagcast.v1. It sends only the messages of its caller. */
export class V1Client extends WebSocketClient<ServerMessage> {
  /** Rejects with a Refused when the server answers with HTTP. The token is sent as by a browser. */
  static async connect<Client extends V1Client>(
    this: new (url: string, options: WebSocketClientOptions<ServerMessage>) => Client,
    wsUrl: string,
    { token, query = {}, ...options }: V1ClientOptions = {},
  ): Promise<Client> {
    const protocols = [subprotocol, ...(token === undefined ? [] : [`bearer.${token}`])];
    const url = `${wsUrl}?${new URLSearchParams(query).toString()}`;
    return await new this(url, { ...options, protocols }).opened();
  }

  send(message: ClientMessage): void {
    this.socket.send(JSON.stringify(message));
  }

  /** Sends a message and resolves with the first later control message of these types. */
  async ask<Type extends ControlType>(message: ClientMessage, ...answers: Type[]): Promise<Control<Type>> {
    const from = this.messages.length;
    this.send(message);
    return await this.firstControl(answers, from);
  }

  async subscribe({ projectId, environmentId }: ChannelIds, cursor?: string): Promise<Answer> {
    const resume = cursor === undefined ? {} : { cursor };
    return await this.#subscribe({ project_id: projectId, env_id: environmentId, ...resume });
  }

  /** Subscribes, which must succeed. Resolves with the cursor. */
  async caughtUp(channel: ChannelIds, cursor?: string): Promise<string> {
    return expectCaughtUp(await this.subscribe(channel, cursor)).cursor;
  }

  /** As `caughtUp`, to the approvals feed. */
  async caughtUpFeed(resume?: FeedPosition): Promise<FeedPosition> {
    const position = resume === undefined ? {} : { cursor: resume.cursor, scope: resume.scope };
    const { cursor, scope = '' } = expectCaughtUp(await this.#subscribe({ feed: 'approvals', ...position }));
    return { cursor, scope };
  }

  async #subscribe(to: object): Promise<Answer> {
    const message = { type: 'subscribe', ...to } as ClientMessage;
    return await this.ask(message, 'caught_up', 'resync', 'error');
  }
}

function expectCaughtUp(answer: Answer): Control<'caught_up'> {
  if (answer.type !== 'caught_up') throw new Error(`not caught up: ${JSON.stringify(answer)}`);
  return answer;
}
