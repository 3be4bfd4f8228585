import {
  CloseCode,
  type CloseReason,
  type ControlMessage,
  type FreshnessMessage,
  type HelloMessage,
  maxChannels,
  type ResyncReason,
  subprotocol,
} from '@flagcast/protocol';
import type { OpenedSubscription, Principal, RequestAuthorizer } from '../auth/request-authorizer.js';
import type {
  ApprovalsScope,
  Channel,
  ChannelIds,
  ChannelRequest,
  SubscriptionRequest,
} from '../auth/authorization.js';
import type { Broadcaster, ChannelChange, ChannelEnd } from '../broadcast/broadcaster.js';
import type { Dialect } from '../events/dialect.js';
import { approvalsFeed, channelKey } from '../events/event.js';
import { cursorOf, decodeCursor, type Position } from '../events/position.js';
import type { ChannelsChange, Lifecycle } from '../lifecycle.js';
import type { Missed, MissedEventsSource } from '../replay/missed-events.js';
import type { Heartbeat, V1Wire } from './codecs/v1.js';
import type { Connection, Session } from './connection.js';
import type { Presence } from './presence.js';
import { V1Input } from './v1-input.js';
import {
  ApprovalsSubscription,
  endMessages,
  isNamed,
  type SubscriptionOwner,
  V1Channel,
  type V1Subscription,
} from './v1-subscriptions.js';

/** What all sessions of a server share. */
export interface V1Sources {
  readonly broadcaster: Broadcaster;
  readonly missedEvents: MissedEventsSource;
  readonly authorizer: RequestAuthorizer;
  /** The server's part of `hello`. Throws if the source of events is not known yet. */
  readonly hello: (principal: Principal) => Omit<HelloMessage, 'type' | 'protocol' | 'max_channels'>;
  /** The message that tells clients that the server is stale; null while it is fresh. */
  readonly stale: () => FreshnessMessage | null;
  /** Null if it is switched off. */
  readonly presence: Presence | null;
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

/**
 * A flagcast.v1 connection with its channels and, if subscribed, the approvals feed. Each begins at its cursor: what was
 * missed comes from the replay buffer or the database, else the client gets a resync.
 */
export class V1Session implements Session, SubscriptionOwner {
  readonly connection: Connection;
  readonly #sources: V1Sources;
  readonly #wire: V1Wire;
  #subscriptions: readonly V1Subscription[] = [];
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

  get approvalsScope(): ApprovalsScope | null {
    return this.#feed?.scope ?? null;
  }

  get #channels(): V1Channel[] {
    return this.#subscriptions.filter((subscription) => subscription instanceof V1Channel);
  }

  get #feed(): ApprovalsSubscription | undefined {
    return this.#subscriptions.find((subscription) => subscription instanceof ApprovalsSubscription);
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
  async subscribe(request: SubscriptionRequest, cursor: string | null): Promise<void> {
    if (!('feed' in request) && this.#channels.length >= maxChannels) {
      throw new SessionError(
        'too_many_channels',
        `A connection may have ${maxChannels} channels: unsubscribe one`,
      );
    }
    const { authorizer } = this.#sources;
    await this.open(await authorizer.openSubscription(this.connection.principal, request), cursor);
  }

  /** Subscribes to what the user may view. What was true in another scope of the feed cannot be continued. */
  async open(opened: OpenedSubscription, cursor: string | null): Promise<void> {
    const isReading = await this.#sources.broadcaster.progress.begun();
    const key =
      'scope' in opened ? approvalsFeed : channelKey(opened.channel.projectId, opened.channel.environmentId);
    if (this.#subscriptions.some((other) => other.key === key)) {
      throw new SessionError('already_subscribed', 'This is subscribed on this connection already');
    }
    if (this.#isEnded) return;
    if (!isReading) {
      throw new SessionError('unavailable', 'The database has not been read yet: try again shortly');
    }
    const subscription = this.#subscribeTo(opened);
    this.#subscriptions = [...this.#subscriptions, subscription];
    const position = cursor === null ? null : decodeCursor(cursor);
    if (cursor === null) {
      this.#goLive(subscription);
    } else if (position === null) {
      this.resync(subscription, 'cursor_malformed');
    } else if ('scope' in opened && opened.scope.id !== opened.knownScope) {
      this.resync(subscription, 'scope_changed');
    } else {
      try {
        await this.#resume(subscription, position);
      } catch (error) {
        this.#remove(subscription);
        throw error;
      }
    }
  }

  #subscribeTo(opened: OpenedSubscription): V1Subscription {
    const { broadcaster } = this.#sources;
    const options = { owner: this, broadcaster, connection: this.connection };
    const { dialect, feedDialect } = this.#wire;
    return 'scope' in opened
      ? new ApprovalsSubscription(opened.scope, { ...options, dialect: feedDialect })
      : new V1Channel(opened.channel, opened.request, { ...options, dialect });
  }

  /** Throws a SessionError if it is not subscribed. */
  unsubscribe(request: SubscriptionRequest): void {
    const found = 'feed' in request ? this.#feed : this.#findChannel(request);
    if (found === undefined) {
      throw new SessionError('not_subscribed', 'This is not subscribed on this connection');
    }
    this.#remove(found);
    this.send({ type: 'unsubscribed', ...found.name });
  }

  #findChannel(request: ChannelRequest): V1Channel | undefined {
    const channels = this.#channels;
    // Two environments can swap their keys: a current name takes precedence over the one of the subscription.
    return (
      channels.find(({ channel }) => isNamed(channel, request)) ??
      channels.find((other) => isNamed(other.request, request))
    );
  }

  /** The channel, by its ids as the database writes them, if it or the approvals feed with it is subscribed; else null. */
  viewable(ids: ChannelIds): ChannelIds | null {
    return this.#findChannel(ids)?.channel ?? (this.#feed?.scope.includes(ids) === true ? ids : null);
  }

  /** Ends single channels with an error message; without a remaining subscription, the connection. */
  revoke(mayView: (channel: Channel) => boolean): boolean {
    const revoked = this.#channels.filter(({ channel }) => !mayView(channel));
    if (revoked.length === 0) return false;
    if (revoked.length === this.#subscriptions.length) {
      this.close(CloseCode.forbidden, 'forbidden');
      return true;
    }
    for (const channel of revoked) {
      this.#remove(channel);
      const message = 'You may no longer see this project';
      this.send({ type: 'error', code: 'forbidden', message, ...channel.name });
    }
    return true;
  }

  rescope(scope: ApprovalsScope | null): void {
    const feed = this.#feed;
    if (feed === undefined || feed.scope.id === scope?.id) return;
    if (scope === null) this.close(CloseCode.forbidden, 'user_inactive');
    else this.resync(feed, 'scope_changed');
  }

  channelsChanged(change: ChannelsChange): void {
    const feed = this.#feed;
    if (feed?.contains(change) === true) this.resync(feed, 'scope_changed');
  }

  /** Only if everything before its cursor was sent on all channels. */
  sendHeartbeat(heartbeat: Heartbeat): void {
    if (this.#isEnded || this.connection.isFull) return;
    if (!this.#subscriptions.every((subscription) => subscription.flush())) return;
    for (const subscription of this.#subscriptions) subscription.advance(heartbeat.position);
    this.connection.send(heartbeat.encoded(this.#wire));
  }

  drained(): void {
    if (this.#isEnded) return;
    this.connection.drained();
    this.#sources.presence?.drained(this.connection);
    for (const subscription of this.#subscriptions) {
      // One that is replaying catches up anyway.
      if (!subscription.isBehind) continue;
      if (subscription.catchUp()) this.#announce(subscription);
      else void this.#resumeAfterPause(subscription);
    }
  }

  close(code: CloseCode, reason: CloseReason): void {
    if (this.#isEnded) return;
    this.end();
    this.connection.close(code, reason);
  }

  end(): void {
    this.#isEnded = true;
    for (const subscription of this.#subscriptions) subscription.end();
    this.#subscriptions = [];
    this.#retainPresence();
  }

  /** The approvals feed itself has no name and no end: see `channelsChanged`. */
  changed(subscription: V1Subscription, change: ChannelChange): void {
    if (change.type === 'history_lost') this.resync(subscription, 'history_changed');
    if (subscription.isEnded || !(subscription instanceof V1Channel)) return;
    if (change.type === 'renamed') this.#rename(subscription, change.environmentKey);
    if (change.type === 'ended') this.#endChannel(subscription, change.reason);
  }

  #rename(channel: V1Channel, environmentKey: string): void {
    const previous = channel.channel.environmentKey;
    if (previous === environmentKey) return;
    // A new object, because sessions that subscribed in the same query share it.
    channel.channel = { ...channel.channel, environmentKey };
    this.send({ type: 'channel_changed', ...channel.name, previous_environment: previous });
  }

  #endChannel(channel: V1Channel, reason: ChannelEnd): void {
    if (this.#subscriptions.length === 1) {
      this.close(CloseCode.unknownChannel, reason);
      return;
    }
    this.#remove(channel);
    this.send({ type: 'error', code: reason, message: endMessages[reason], ...channel.name });
  }

  resync(subscription: V1Subscription, reason: ResyncReason): void {
    if (subscription.isEnded) return;
    this.#remove(subscription);
    this.send({ type: 'resync', ...subscription.name, reason });
    this.#sources.lifecycle.emit('channel:resync', { channel: subscription.key, reason });
    if (this.#subscriptions.length === 0) this.connection.onLastChannelEnded();
  }

  /** The replay buffer does not have everything since the pause. */
  async #resumeAfterPause(channel: V1Subscription): Promise<void> {
    const { position } = channel;
    try {
      if (position === null) this.resync(channel, 'history_changed');
      else await this.#resume(channel, position);
    } catch {
      // After an `unsubscribe`, the other channels continue.
      if (channel.isEnded) return;
      // The client reconnects with its cursor.
      this.close(CloseCode.slow, 'slow');
    }
  }

  /** Sends the events after the position. Rejects if the database does not answer. */
  async #resume(channel: V1Subscription, position: Position): Promise<void> {
    if (this.connection.isFull) {
      channel.waitAt(position);
      return;
    }
    // Not live before all of it was sent. Batches that arrive meanwhile come from the replay buffer.
    channel.replayFrom(this.#sources.broadcaster.sequence, position);
    const { missedEvents } = this.#sources;
    const missed = await missedEvents.since(channel.target, position, () => !channel.isEnded);
    if (channel.isEnded) return;
    if (missed === 'unavailable') {
      throw new SessionError('unavailable', 'The database does not answer: try again shortly');
    }
    if (typeof missed === 'string') this.resync(channel, missed);
    else this.#replay(channel, position, missed);
  }

  #replay(channel: V1Subscription, from: Position, { events, source, sequence, position }: Missed): void {
    // Other channels of this connection have filled it meanwhile.
    if (this.connection.isFull) {
      channel.waitAt(from);
      return;
    }
    // Without a cursor: caught_up has it, after all that was missed.
    const bytes = channel.encode(events);
    if (bytes !== null) this.connection.send(bytes);
    channel.replayFrom(sequence, position);
    const resumed = { channel: channel.key, source, events: events.events.length };
    this.#sources.lifecycle.emit('channel:resumed', resumed);
    this.#goLive(channel);
  }

  #goLive(channel: V1Subscription): void {
    if (!channel.catchUp()) this.resync(channel, 'too_many_missed');
    else this.#announce(channel);
  }

  /** Sends `caught_up` once, as soon as everything before it was sent. */
  #announce(channel: V1Subscription): void {
    const { position } = this.#sources.broadcaster;
    if (channel.isAnnounced || !channel.isLive || position === null) return;
    channel.isAnnounced = true;
    this.send({ type: 'caught_up', ...channel.name, cursor: cursorOf(position), ...channel.caughtUp });
    channel.advance(position);
  }

  #remove(subscription: V1Subscription): void {
    subscription.end();
    this.#subscriptions = this.#subscriptions.filter((other) => other !== subscription);
    this.#retainPresence();
  }

  #retainPresence(): void {
    this.#sources.presence?.retain(this.connection, (channel) => this.viewable(channel) !== null);
  }
}
