import {
  type ApprovalsSnapshot,
  type ClientMessage,
  type ControlMessage,
  type EventMessage,
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
    return await this.log.find(fits, from);
  }

  /** Resolves with the first event about the entity. */
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

  async subscribe({ projectId, environmentId }: ChannelIds, cursor?: string): Promise<Answer> {
    const resume = cursor === undefined ? {} : { cursor };
    return await this.ask(
      { type: 'subscribe', project_id: projectId, env_id: environmentId, ...resume },
      'caught_up',
      'resync',
      'error',
    );
  }

  /** Subscribes, which must succeed. Resolves with the cursor. */
  async caughtUp(channel: ChannelIds, cursor?: string): Promise<string> {
    const answer = await this.subscribe(channel, cursor);
    return expectCaughtUp(answer).cursor;
  }

  /** As `caughtUp`, to the approvals feed. */
  async caughtUpFeed(resume?: FeedPosition): Promise<FeedPosition> {
    const position = resume === undefined ? {} : { cursor: resume.cursor, scope: resume.scope };
    const answer = await this.ask(
      { type: 'subscribe', feed: 'approvals', ...position },
      'caught_up',
      'resync',
      'error',
    );
    const { cursor, scope = '' } = expectCaughtUp(answer);
    return { cursor, scope };
  }
}

function expectCaughtUp(answer: Answer): Control<'caught_up'> {
  if (answer.type !== 'caught_up') throw new Error(`not caught up: ${JSON.stringify(answer)}`);
  return answer;
}
