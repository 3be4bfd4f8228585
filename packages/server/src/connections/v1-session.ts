import {
  type ChannelName,
  CloseCode,
  type ControlMessage,
  type FreshnessMessage,
  type HelloMessage,
  maxChannels,
  type ResyncReason,
  subprotocol,
} from '@flagcast/protocol';
import type { Principal, RequestAuthorizer } from '../auth/request-authorizer.js';
import type { Channel, ChannelRequest } from '../auth/authorization.js';
import type { ChannelEnd } from '../broadcast/broadcaster.js';
import type { Dialect } from '../events/dialect.js';
import { channelKey } from '../events/event.js';
import { cursorOf, decodeCursor, type Position } from '../events/position.js';
import type { Lifecycle } from '../lifecycle.js';
import type { Heartbeat, V1Wire } from './codecs/v1.js';
import type { Connection, Session } from './connection.js';
import { findMissed, type Missed, type ResumeSources } from './resume.js';
import { Subscription } from './subscription.js';
import { V1Input } from './v1-input.js';

/** What all sessions of a server share. */
export interface V1Sources extends ResumeSources {
  readonly authorizer: RequestAuthorizer;
  /** The server's part of `hello`. Throws if the source of events is not known yet. */
  readonly hello: (principal: Principal) => Omit<HelloMessage, 'type' | 'protocol' | 'max_channels'>;
  /** The message that tells clients that the server is stale; null while it is fresh. */
  readonly stale: () => FreshnessMessage | null;
  readonly lifecycle: Lifecycle;
}

/** Why a message of the client was not carried out, for an `error` message. */
export class SessionError extends Error {
  readonly code: string;

  constructor(code: string, message: string) {
    super(message);
    this.code = code;
  }
}

const endMessages: Readonly<Record<ChannelEnd, string>> = {
  environment_deleted: 'The environment was deleted',
  project_archived: 'The project was archived',
  project_deleted: 'The project was deleted',
};

function isNamed(known: Channel | ChannelRequest, name: ChannelRequest): boolean {
  if (known.projectId !== name.projectId) return false;
  if ('environmentKey' in name) {
    return 'environmentKey' in known && known.environmentKey === name.environmentKey;
  }
  return 'environmentId' in known && known.environmentId === name.environmentId;
}

/**
 * A flagcast.v1 connection with its channels. Each channel begins at its cursor: what was missed comes from the replay
 * buffer or the database, else the client gets a resync.
 */
export class V1Session implements Session {
  readonly connection: Connection;
  readonly #sources: V1Sources;
  readonly #wire: V1Wire;
  #channels: readonly V1Channel[] = [];
  /** Null after it was sent. */
  #hello: HelloMessage | null;
  #input: V1Input | null = null;
  #isEnded = false;

  constructor(sources: V1Sources, connection: Connection, wire: V1Wire) {
    this.#sources = sources;
    this.connection = connection;
    this.#wire = wire;
    const hello = sources.hello(connection.principal);
    this.#hello = { type: 'hello', protocol: subprotocol, max_channels: maxChannels, ...hello };
  }

  get dialect(): Dialect {
    return this.#wire.dialect;
  }

  get isEnded(): boolean {
    return this.#isEnded;
  }

  channels(): Channel[] {
    return this.#channels.map(({ channel }) => channel);
  }

  send(message: ControlMessage): void {
    if (!this.#isEnded) this.connection.send(this.#wire.control(message));
  }

  /** Sends the first message. */
  sendHello(): void {
    if (this.#hello !== null) this.send(this.#hello);
    this.#hello = null;
    const stale = this.#sources.stale();
    if (stale !== null) this.send(stale);
  }

  sendFreshness(message: FreshnessMessage): void {
    if (this.#hello === null) this.send(message);
  }

  receive(data: Buffer, isBinary: boolean): void {
    this.#input ??= new V1Input(this, this.#sources);
    this.#input.receive(data, isBinary);
  }

  /** Subscribes and sends the missed events. Rejects with a SessionError, a refusal, or what the database throws. */
  async subscribe(request: ChannelRequest, cursor: string | null): Promise<void> {
    if (this.#channels.length >= maxChannels) {
      throw new SessionError(
        'too_many_channels',
        `A connection may have ${maxChannels} channels: unsubscribe one`,
      );
    }
    const channel = await this.#sources.authorizer.openChannel(this.connection.principal, request);
    await this.open(channel, request, cursor);
  }

  /** Subscribes to a channel that the user may view. */
  async open(channel: Channel, request: ChannelRequest, cursor: string | null): Promise<void> {
    const { broadcaster } = this.#sources;
    const isReading = await broadcaster.begun();
    const key = channelKey(channel.projectId, channel.environmentId);
    if (this.#channels.some((other) => other.key === key)) {
      throw new SessionError('already_subscribed', 'This channel is subscribed on this connection');
    }
    if (this.#isEnded) return;
    if (!isReading) {
      throw new SessionError('unavailable', 'The database has not been read yet: try again shortly');
    }
    const { connection, dialect } = this;
    const opened = new V1Channel(this, channel, request, { key, broadcaster, connection, dialect });
    this.#channels = [...this.#channels, opened];
    const position = cursor === null ? null : decodeCursor(cursor);
    if (cursor === null) {
      this.#goLive(opened);
    } else if (position === null) {
      this.resync(opened, 'cursor_malformed');
    } else {
      try {
        await this.#resume(opened, position);
      } catch (error) {
        this.#remove(opened);
        throw error;
      }
    }
  }

  /** Throws a SessionError if the channel is not subscribed. */
  unsubscribe(request: ChannelRequest): void {
    // Two environments can swap their keys: a current name takes precedence over the one of the subscription.
    const found =
      this.#channels.find(({ channel }) => isNamed(channel, request)) ??
      this.#channels.find((other) => isNamed(other.request, request));
    if (found === undefined) {
      throw new SessionError('not_subscribed', 'This channel is not subscribed on this connection');
    }
    this.#remove(found);
    this.send({ type: 'unsubscribed', ...found.name });
  }

  /** Ends single channels with an error message; without a remaining channel, the connection. */
  revoke(mayView: (channel: Channel) => boolean): boolean {
    const revoked = this.#channels.filter(({ channel }) => !mayView(channel));
    if (revoked.length === 0) return false;
    if (revoked.length === this.#channels.length) {
      this.close(CloseCode.forbidden, 'you may no longer see this project');
      return true;
    }
    for (const channel of revoked) {
      this.#remove(channel);
      const message = 'You may no longer see this project';
      this.send({ type: 'error', code: 'forbidden', message, ...channel.name });
    }
    return true;
  }

  /** Only if everything before its cursor was sent on all channels. */
  sendHeartbeat(heartbeat: Heartbeat): void {
    if (this.#isEnded || this.connection.isFull) return;
    if (!this.#channels.every((channel) => channel.flush())) return;
    for (const channel of this.#channels) channel.advance(heartbeat.position);
    this.connection.send(heartbeat.encoded(this.#wire));
  }

  drained(): void {
    if (this.#isEnded) return;
    this.connection.drained();
    for (const channel of this.#channels) {
      // A channel that is replaying catches up anyway.
      if (!channel.isBehind) continue;
      if (channel.catchUp()) this.#announce(channel);
      else void this.#resumeAfterPause(channel);
    }
  }

  close(code: CloseCode, reason: string): void {
    if (this.#isEnded) return;
    this.end();
    this.connection.close(code, reason);
  }

  end(): void {
    this.#isEnded = true;
    for (const channel of this.#channels) channel.end();
    this.#channels = [];
  }

  renamed(channel: V1Channel, environmentKey: string): void {
    const previous = channel.channel.environmentKey;
    if (channel.isEnded || previous === environmentKey) return;
    // A new object, because sessions that subscribed in the same query share it.
    channel.channel = { ...channel.channel, environmentKey };
    this.send({ type: 'channel_changed', ...channel.name, previous_environment: previous });
  }

  channelEnded(channel: V1Channel, reason: ChannelEnd): void {
    if (channel.isEnded) return;
    if (this.#channels.length === 1) {
      this.close(CloseCode.unknownChannel, reason);
      return;
    }
    this.#remove(channel);
    this.send({ type: 'error', code: reason, message: endMessages[reason], ...channel.name });
  }

  resync(channel: V1Channel, reason: ResyncReason): void {
    if (channel.isEnded) return;
    this.#remove(channel);
    this.send({ type: 'resync', ...channel.name, reason });
    this.#sources.lifecycle.emit('channel:resync', { channel: channel.key, reason });
    if (this.#channels.length === 0) this.connection.onLastChannelEnded();
  }

  /** The replay buffer does not have everything since the pause. */
  async #resumeAfterPause(channel: V1Channel): Promise<void> {
    const { position } = channel;
    try {
      if (position === null) this.resync(channel, 'history_changed');
      else await this.#resume(channel, position);
    } catch {
      // After an `unsubscribe`, the other channels continue.
      if (channel.isEnded) return;
      // The client reconnects with its cursor.
      this.close(CloseCode.slow, 'fell behind, and the missed events cannot be read now');
    }
  }

  /** Sends the events after the position. Rejects if the database does not answer. */
  async #resume(channel: V1Channel, position: Position): Promise<void> {
    if (this.connection.isFull) {
      channel.waitAt(position);
      return;
    }
    // Not live before all of it was sent. Batches that arrive meanwhile come from the replay buffer.
    channel.replayFrom(this.#sources.broadcaster.sequence, position);
    const missed = await findMissed(this.#sources, {
      subscription: channel,
      channel: channel.channel,
      position,
    });
    if (channel.isEnded) return;
    if (missed === 'unavailable') {
      throw new SessionError('unavailable', 'The database does not answer: try again shortly');
    }
    if (typeof missed === 'string') this.resync(channel, missed);
    else this.#replay(channel, position, missed);
  }

  #replay(channel: V1Channel, from: Position, { events, source, sequence, position }: Missed): void {
    // Other channels of this connection have filled it meanwhile.
    if (this.connection.isFull) {
      channel.waitAt(from);
      return;
    }
    // Without a cursor: caught_up has it, after all that was missed.
    if (events.events.length > 0) this.connection.send(events.encoded(this.dialect));
    channel.replayFrom(sequence, position);
    const resumed = { channel: channel.key, source, events: events.events.length };
    this.#sources.lifecycle.emit('channel:resumed', resumed);
    this.#goLive(channel);
  }

  #goLive(channel: V1Channel): void {
    if (!channel.catchUp()) this.resync(channel, 'too_many_missed');
    else this.#announce(channel);
  }

  /** Sends `caught_up` once, as soon as everything before it was sent. */
  #announce(channel: V1Channel): void {
    const { position } = this.#sources.broadcaster;
    if (channel.isAnnounced || !channel.isLive || position === null) return;
    channel.isAnnounced = true;
    this.send({ type: 'caught_up', ...channel.name, cursor: cursorOf(position) });
    channel.advance(position);
  }

  #remove(channel: V1Channel): void {
    channel.end();
    this.#channels = this.#channels.filter((other) => other !== channel);
  }
}

class V1Channel extends Subscription {
  /** With the environment's current key. */
  channel: Channel;
  /** As the client named it: an id can be written in several ways. */
  readonly request: ChannelRequest;
  isAnnounced = false;
  readonly #session: V1Session;

  constructor(
    session: V1Session,
    channel: Channel,
    request: ChannelRequest,
    options: ConstructorParameters<typeof Subscription>[0],
  ) {
    super(options);
    this.#session = session;
    this.channel = channel;
    this.request = request;
  }

  /** The keys that name it in messages. */
  get name(): ChannelName {
    const { projectId, environmentKey, environmentId } = this.channel;
    return { project_id: projectId, environment: environmentKey, environment_id: environmentId };
  }

  historyLost(): void {
    this.#session.resync(this, 'history_changed');
  }

  channelRenamed(environmentKey: string): void {
    this.#session.renamed(this, environmentKey);
  }

  channelEnded(reason: ChannelEnd): void {
    this.#session.channelEnded(this, reason);
  }
}
