import {
  CloseCode,
  type ControlMessage,
  type FreshnessMessage,
  type HelloMessage,
  maxChannels,
  type ResyncReason,
  subprotocol,
} from '@flagcast/protocol';
import type { Channel, ChannelRequest } from '../auth/table-authorization.js';
import type { Broadcaster, ChannelEnd } from '../broadcast/broadcaster.js';
import type { Dialect } from '../events/dialect.js';
import { channelKey, type FlagEvent } from '../events/event.js';
import { cursorOf, decodeCursor, type Position } from '../events/position.js';
import { SharedEvents } from '../events/dialect.js';
import type { MissedEventsSource, Progress } from '../replay/missed-events.js';
import type { Lifecycle } from '../lifecycle.js';
import { endMessages, isNamed, named } from './channel-names.js';
import type { Heartbeat } from './heartbeat.js';
import type { Connection } from './connection.js';
import { Subscription, type SubscriptionHost } from './subscription.js';

/** How a session speaks: WebSocket frames or server-sent events. */
export interface SessionWire {
  readonly dialect: Dialect;
  control(message: ControlMessage): Buffer;
}

/** What all sessions of a server share. */
interface SessionSources {
  readonly broadcaster: Broadcaster;
  readonly missedEvents: MissedEventsSource;
  /** Whether the reader will still bring this event, so that it must not be taken from elsewhere. */
  readonly willBeRead: (event: FlagEvent) => boolean;
  /** What connections are sent about freshness now; null while the server is fresh. */
  readonly stale: () => FreshnessMessage | null;
  readonly lifecycle: Lifecycle;
}

export interface SessionOptions {
  peer: Connection;
  wire: SessionWire;
  /** The channel, if its user may see it; throws a refusal or what the database throws. */
  openChannel: (wanted: ChannelRequest) => Promise<Channel>;
  /** What `hello` says beside the protocol's own numbers. */
  hello: Omit<HelloMessage, 'type' | 'protocol' | 'max_channels'>;
}

/** How often the database is asked for what a peer has missed, when each answer is out of date as it comes. */
const maxAttempts = 3;

interface OpenChannel {
  /** With the key that the environment has now. */
  channel: Channel;
  /** As the peer named it when it subscribed: ids can be written in several ways. */
  readonly request: ChannelRequest;
  readonly subscription: Subscription;
  /** Whether `caught_up` is still to be said, once the peer has taken what comes before it. */
  announce: boolean;
}

/** A word for the peer why its message could not be carried out. */
export class SessionError extends Error {
  readonly code: string;

  constructor(code: string, message: string) {
    super(message);
    this.code = code;
  }
}

/**
 * One flagcast.v1 peer and its channels. Each channel begins where its cursor says: from the
 * broadcaster's ring when that reaches back so far, else from the database, else with a resync.
 */
export class Session implements SubscriptionHost {
  readonly dialect: Dialect;
  readonly #sources: SessionSources;
  readonly #peer: Connection;
  readonly #wire: SessionWire;
  readonly #openChannel: (wanted: ChannelRequest) => Promise<Channel>;
  #channels: readonly OpenChannel[] = [];
  /** Null once it has been told: thousands of them need not be kept. */
  #hello: HelloMessage | null;
  #ended = false;

  constructor(sources: SessionSources, { peer, wire, openChannel, hello }: SessionOptions) {
    this.#sources = sources;
    this.#peer = peer;
    this.#wire = wire;
    this.#openChannel = openChannel;
    this.#hello = { type: 'hello', protocol: subprotocol, max_channels: maxChannels, ...hello };
    this.dialect = wire.dialect;
  }

  /** The peer has left or was closed: nothing is done for it any more. */
  get isEnded(): boolean {
    return this.#ended;
  }

  /** The channels that are subscribed. */
  channels(): Channel[] {
    return this.#channels.map(({ channel }) => channel);
  }

  tell(message: ControlMessage): void {
    if (!this.#ended) this.#peer.send(this.#wire.control(message));
  }

  /** The first message. */
  hello(): void {
    if (this.#hello !== null) this.tell(this.#hello);
    this.#hello = null;
    const stale = this.#sources.stale();
    if (stale !== null) this.tell(stale);
  }

  /** Sends the message: the server has become stale or fresh. */
  freshness(message: FreshnessMessage): void {
    if (this.#hello === null) this.tell(message);
  }

  /** Subscribes and brings what was missed. Rejects with a SessionError, a refusal, or what the database throws. */
  async subscribe(request: ChannelRequest, cursor: string | null): Promise<void> {
    if (this.#channels.length >= maxChannels) {
      throw new SessionError(
        'too_many_channels',
        `A connection may have ${maxChannels} channels: unsubscribe one`,
      );
    }
    const channel = await this.#openChannel(request);
    const isReading = await this.#sources.broadcaster.begun();
    const key = channelKey(channel.projectId, channel.environmentId);
    if (this.#find(key) !== undefined) {
      throw new SessionError('already_subscribed', 'This channel is subscribed on this connection');
    }
    if (this.#ended) return;
    if (!isReading) {
      throw new SessionError('unavailable', 'The database has not been read yet: try again shortly');
    }
    const subscription = new Subscription(key, this.#sources.broadcaster, this, this.#peer);
    const open = { channel, request, subscription, announce: true };
    this.#channels = [...this.#channels, open];
    if (cursor === null) {
      this.#goLive(open);
      return;
    }
    const position = decodeCursor(cursor);
    if (position === null) {
      this.#resync(open, 'cursor_malformed');
      return;
    }
    try {
      await this.#resume(open, position);
    } catch (error) {
      this.#forget(open);
      throw error;
    }
  }

  /** Throws a SessionError when the channel is not subscribed. */
  unsubscribe(request: ChannelRequest): void {
    // Keys can be swapped: the present name counts before the one that the channel was subscribed by.
    const open =
      this.#channels.find(({ channel }) => isNamed(channel, request)) ??
      this.#channels.find((candidate) => isNamed(candidate.request, request));
    if (open === undefined) {
      throw new SessionError('not_subscribed', 'This channel is not subscribed on this connection');
    }
    this.#forget(open);
    this.tell({ type: 'unsubscribed', ...named(open.channel) });
  }

  /** Ends channels that the user may no longer see: with a word while others remain, else with the connection. */
  revoke(mayView: (channel: Channel) => boolean): boolean {
    const lost = this.#channels.filter(({ channel }) => !mayView(channel));
    if (lost.length === 0) return false;
    if (lost.length === this.#channels.length) {
      this.close(CloseCode.forbidden, 'you may no longer see this project');
      return true;
    }
    for (const open of lost) {
      this.#forget(open);
      const message = 'You may no longer see this project';
      this.tell({ type: 'error', code: 'forbidden', message, ...named(open.channel) });
    }
    return true;
  }

  /** Tells a peer all of whose channels are live where it stands. */
  heartbeat(beat: Heartbeat): void {
    if (this.#ended || this.#peer.full) return;
    if (!this.#channels.every(({ subscription }) => subscription.flush())) return;
    for (const { subscription } of this.#channels) subscription.advance(beat.position);
    this.#peer.send(beat.encoded(this.#wire));
  }

  /** To be called when the peer's buffer is empty. */
  drained(): void {
    if (this.#ended) return;
    this.#peer.drained();
    for (const open of this.#channels) {
      const { subscription } = open;
      // One that is being replayed catches up by itself.
      if (!subscription.isBehind) continue;
      if (subscription.catchUp()) this.#announce(open);
      else void this.#resumeAfterPause(open);
    }
  }

  close(code: CloseCode, reason: string): void {
    if (this.#ended) return;
    this.#leave();
    this.#peer.close(code, reason);
  }

  /** To be called when the peer is gone. */
  ended(): void {
    this.#ended = true;
    for (const { subscription } of this.#channels) subscription.end();
    this.#channels = [];
  }

  /** A peer that does not take its last message is not waited for longer than one that does not read. */
  #leave(): void {
    this.ended();
    this.#peer.leave();
  }

  channelRenamed(subscription: Subscription, environmentKey: string): void {
    const open = this.#find(subscription.channel);
    if (open === undefined || open.channel.environmentKey === environmentKey) return;
    const previous = open.channel.environmentKey;
    // Others that subscribed together share the object.
    open.channel = { ...open.channel, environmentKey };
    this.tell({ type: 'channel_changed', ...named(open.channel), previous_environment: previous });
  }

  channelEnded(subscription: Subscription, reason: ChannelEnd): void {
    const open = this.#find(subscription.channel);
    if (open === undefined) return;
    if (this.#channels.length === 1) {
      this.close(CloseCode.unknownChannel, reason);
      return;
    }
    this.#forget(open);
    this.tell({ type: 'error', code: reason, message: endMessages[reason], ...named(open.channel) });
  }

  historyLost(subscription: Subscription): void {
    const open = this.#find(subscription.channel);
    if (open?.subscription === subscription) this.#resync(open, 'history_changed');
  }

  /** The ring no longer reaches back to where the peer was paused. */
  async #resumeAfterPause(open: OpenChannel): Promise<void> {
    const { position } = open.subscription;
    try {
      if (position === null) this.#resync(open, 'history_changed');
      else await this.#resume(open, position);
    } catch {
      // It was unsubscribed meanwhile: the other channels go on.
      if (open.subscription.isEnded) return;
      // The database does not answer: the peer comes back with its cursor.
      this.close(CloseCode.slow, 'fell behind, and what was missed cannot be read now');
    }
  }

  /** Brings what somebody at the position has missed. Rejects when the database does not answer. */
  async #resume(open: OpenChannel, position: Position): Promise<void> {
    const { broadcaster, missedEvents } = this.#sources;
    const { subscription } = open;
    if (this.#peer.full) {
      subscription.waitAt(position);
      return;
    }
    // Not live until all that was missed has been sent; what comes meanwhile is taken from the ring.
    subscription.replayFrom(broadcaster.sequence, position);
    const now = broadcaster.position;
    if (now !== null && now.history !== position.history) {
      this.#resync(open, 'history_changed');
      return;
    }
    const reached = await broadcaster.reach(position);
    if (subscription.isEnded) return;
    if (reached === 'unavailable') {
      throw new SessionError('unavailable', 'The database does not answer: try again shortly');
    }
    if (reached === 'behind') {
      this.#resync(open, 'cursor_ahead');
      return;
    }
    const kept = broadcaster.eventsSince(position, subscription.channel);
    if (kept === null) await this.#resumeFromDatabase(open, position);
    else if (missedEvents.isTooMuch(kept.events)) this.#resync(open, 'too_many_missed');
    else {
      const { sequence } = broadcaster;
      this.#replay(open, position, kept, { source: 'ring', sequence, position: broadcaster.position });
    }
  }

  async #resumeFromDatabase(open: OpenChannel, position: Position): Promise<void> {
    const { broadcaster, missedEvents, willBeRead } = this.#sources;
    const { subscription, channel } = open;
    const key = subscription.channel;
    for (let attempt = 1; attempt <= maxAttempts; attempt += 1) {
      const answer = await missedEvents.since(channel, position, broadcaster.oldestSequence(key));
      if (subscription.isEnded) return;
      if (answer.behind) {
        this.#resync(open, 'cursor_ahead');
        return;
      }
      if (answer.expired) {
        this.#resync(open, 'cursor_expired');
        return;
      }
      if (answer.missed === null) break;
      const later = broadcaster.missedSince(answer.progress.sequence, key);
      // So much was written while the database answered that its answer is out of date.
      if (later === null) continue;
      // What the ring brings, or the reader has yet to bring, is not taken from the answer as well.
      const fromRing = new Set(later.flatMap((batch) => batch.events.map((event) => event.id)));
      const { events, seenAtMs } = answer.missed;
      const missed = events.filter((event) => !fromRing.has(event.id) && !willBeRead(event));
      // An answer that was kept for a while may be small, and much may have come since.
      if (missedEvents.isTooMuch([...missed, ...later.flatMap((batch) => batch.events)])) break;
      const shared = missed.length === events.length ? answer.missed : new SharedEvents(missed, seenAtMs);
      this.#replay(open, position, shared, { source: answer.source, ...answer.progress });
      return;
    }
    this.#resync(open, 'too_many_missed');
  }

  /** Sends what was missed since `cursor`, and then what came after batch number `sequence`. */
  #replay(
    open: OpenChannel,
    cursor: Position,
    missed: SharedEvents,
    from: Progress & { source: 'ring' | 'log' | 'database' },
  ): void {
    const { subscription } = open;
    const { source, sequence, position } = from;
    // Others of its channels have filled it meanwhile, and each may have much to bring.
    if (this.#peer.full) {
      subscription.waitAt(cursor);
      return;
    }
    // The cursor comes with caught_up: only then has everything before it been sent.
    if (missed.events.length > 0) this.#peer.send(missed.encoded(this.dialect));
    subscription.replayFrom(sequence, position);
    this.#sources.lifecycle.emit('channel:resumed', {
      channel: subscription.channel,
      source,
      events: missed.events.length,
    });
    this.#goLive(open);
  }

  #goLive(open: OpenChannel): void {
    if (!open.subscription.catchUp()) this.#resync(open, 'too_many_missed');
    else this.#announce(open);
  }

  #announce(open: OpenChannel): void {
    const { position } = this.#sources.broadcaster;
    if (!open.announce || !open.subscription.isLive || position === null) return;
    open.announce = false;
    this.tell({ type: 'caught_up', ...named(open.channel), cursor: cursorOf(position) });
    open.subscription.advance(position);
  }

  #resync(open: OpenChannel, reason: ResyncReason): void {
    this.#forget(open);
    this.tell({ type: 'resync', ...named(open.channel), reason });
    this.#sources.lifecycle.emit('channel:resync', { channel: open.subscription.channel, reason });
    const peer = this.#peer;
    if (this.#channels.length > 0 || peer.emptied === undefined) return;
    this.#leave();
    peer.emptied();
  }

  #forget(open: OpenChannel): void {
    open.subscription.end();
    this.#channels = this.#channels.filter((other) => other !== open);
  }

  #find(key: string): OpenChannel | undefined {
    return this.#channels.find(({ subscription }) => subscription.channel === key);
  }
}
