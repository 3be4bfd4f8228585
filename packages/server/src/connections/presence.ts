import type { PresenceMessage, PresenceUser } from '@flagcast/protocol';
import type { ChannelIds } from '../auth/authorization.js';
import type { Cork } from '../broadcast/deliveries.js';
import type { Relay } from '../broadcast/relay.js';
import { channelKey } from '../events/event.js';
import { textFrame } from './codecs/frame.js';
import type { Connection } from './connection.js';
import { toError } from '../describe.js';
import { editorsFirst, maxUsers, SharedPresence } from './shared-presence.js';

/** A feature or a request that several users may have open. */
export interface PresenceSubject {
  readonly kind: 'feature_id' | 'pending_change_id';
  readonly id: string;
}

/** Where changes are looked for, in milliseconds: what a user does is visible to the others after at most this time. */
const tickMs = 250;
/** The least time between two messages about one subject, in milliseconds; with more people than this, a millisecond for each. */
const minIntervalMs = 950;
/** A view that is not announced again for so long has ended, in milliseconds. Clients announce theirs every 4 s. */
const viewTimeoutMs = 8_500;
const maxViews = 16;
/** How many connections get a message before other work has its turn: about half a millisecond. */
const sendsPerTurn = 64;

interface View {
  field: string | null;
  expiresAtMs: number;
}

/** A connection with views of one subject. */
interface Member {
  readonly connection: Connection;
  readonly group: Group;
  /** By the id that the client gave it. */
  readonly views: Map<string, View>;
  /** What it was sent last. */
  sent: Buffer | null;
}

/** The connections with views of one subject. */
interface Group {
  readonly key: string;
  readonly channel: ChannelIds;
  readonly subject: PresenceSubject;
  readonly members: Map<Connection, Member>;
  /** The users of other servers; null without a relay. */
  readonly shared: SharedPresence | null;
  hasChanged: boolean;
  /** When the next message may be sent, by performance.now(). */
  dueAtMs: number;
  json: string;
  /** The newest message, encoded once for all. */
  encoded: Buffer | null;
}

export interface PresenceOptions {
  /** Writes to many connections in `work` are sent together. */
  readonly cork: Cork;
  /** Whether events are being delivered: they come first. */
  readonly isBusy: () => boolean;
  /** Of the relay; null without one. */
  readonly openTopic: Relay['openTopic'] | null;
  /** A message of another server could not be decoded, and is ignored. Called once. */
  readonly onIgnored: (error: Error) => void;
}

/**
 * Who has which feature or request open: on this server, and with a relay on all. It is only in memory. A message has the complete state, so a
 * connection that was full gets the newest one when it has drained, and nothing is queued for it.
 */
export class Presence {
  readonly #cork: Cork;
  readonly #isBusy: () => boolean;
  readonly #openTopic: Relay['openTopic'] | null;
  readonly #onIgnored: (error: Error) => void;
  readonly #groups = new Map<string, Group>();
  /** The groups of each connection by the ids of its views. */
  readonly #views = new Map<Connection, Map<string, Group>>();
  readonly #queue: Member[] = [];
  #timer: NodeJS.Timeout | null = null;
  #immediate: NodeJS.Immediate | null = null;
  #hasIgnored = false;

  constructor({ cork, isBusy, openTopic, onIgnored }: PresenceOptions) {
    this.#cork = cork;
    this.#isBusy = isBusy;
    this.#openTopic = openTopic;
    this.#onIgnored = onIgnored;
  }

  /** The number of announced views. */
  get size(): number {
    let size = 0;
    for (const views of this.#views.values()) size += views.size;
    return size;
  }

  /** Announces or renews a view. False: the connection has too many others. */
  announce(
    connection: Connection,
    view: string,
    { channel, subject, field }: { channel: ChannelIds; subject: PresenceSubject; field: string | null },
  ): boolean {
    const views = this.#views.get(connection) ?? new Map<string, Group>();
    if (!views.has(view) && views.size >= maxViews) return false;
    const key = JSON.stringify([
      channelKey(channel.projectId, channel.environmentId),
      subject.kind,
      subject.id,
    ]);
    if (views.get(view)?.key !== key) this.leave(connection, view);
    const existing = this.#groups.get(key);
    const group = existing ?? this.#createGroup(key, channel, subject);
    const member: Member = group.members.get(connection) ?? {
      ...{ connection, group, views: new Map<string, View>(), sent: null },
    };
    const before = member.views.get(view);
    if (before?.field !== field) changed(group);
    // A tab that shares the connection has not seen what the connection was sent.
    if (before === undefined) member.sent = null;
    member.views.set(view, { field, expiresAtMs: performance.now() + viewTimeoutMs });
    group.members.set(connection, member);
    this.#views.set(connection, views.set(view, group));
    this.#timer ??= setInterval(() => this.#tick(), tickMs).unref();
    // Asks the other servers at once, so that the first message here has their users.
    if (existing === undefined) group.shared?.tick(performance.now());
    return true;
  }

  /** The view was closed. */
  leave(connection: Connection, view: string): void {
    const views = this.#views.get(connection);
    const group = views?.get(view);
    if (views === undefined || group === undefined) return;
    views.delete(view);
    if (views.size === 0) this.#views.delete(connection);
    const member = group.members.get(connection);
    member?.views.delete(view);
    if (member?.views.size === 0) group.members.delete(connection);
    if (group.members.size > 0) {
      changed(group);
      return;
    }
    this.#groups.delete(group.key);
    group.shared?.close();
  }

  /** Ends the views in channels that the connection may no longer view. */
  retain(connection: Connection, mayView: (channel: ChannelIds) => boolean): void {
    for (const [view, { channel }] of this.#views.get(connection) ?? []) {
      if (!mayView(channel)) this.leave(connection, view);
    }
  }

  /** Sends what the connection missed while it was full. */
  drained(connection: Connection): void {
    for (const group of new Set(this.#views.get(connection)?.values())) {
      const member = group.members.get(connection);
      if (member !== undefined) send(member);
    }
  }

  #createGroup(key: string, channel: ChannelIds, subject: PresenceSubject): Group {
    const members = new Map<Connection, Member>();
    const createdAtMs = performance.now();
    const onChange = (isNew: boolean): void => {
      group.hasChanged = true;
      // The first views of a subject do not wait for the answers of several servers.
      if (isNew && performance.now() < createdAtMs + minIntervalMs) group.dueAtMs = 0;
    };
    const openTopic = this.#openTopic;
    const group: Group = {
      ...{ key, channel, subject, members },
      shared:
        openTopic &&
        new SharedPresence({
          ...{ openTopic, name: key, onChange },
          ownUsers: () => usersOf(members.values()),
          onIgnored: (error) => this.#ignored(error),
        }),
      ...{ hasChanged: true, dueAtMs: 0, json: '', encoded: null },
    };
    this.#groups.set(key, group);
    return group;
  }

  #ignored(error: unknown): void {
    if (this.#hasIgnored) return;
    this.#hasIgnored = true;
    this.#onIgnored(toError(error));
  }

  #tick(): void {
    const nowMs = performance.now();
    for (const group of this.#groups.values()) {
      this.#expire(group, nowMs);
      if (group.members.size === 0) continue;
      group.shared?.tick(nowMs);
      if (!group.hasChanged || nowMs < group.dueAtMs) continue;
      group.hasChanged = false;
      group.dueAtMs = nowMs + Math.max(minIntervalMs, group.members.size);
      encode(group);
      for (const member of group.members.values()) this.#queue.push(member);
    }
    if (this.#queue.length > 0 && this.#immediate === null) this.#send();
    if (this.#groups.size > 0 || this.#timer === null) return;
    clearInterval(this.#timer);
    this.#timer = null;
  }

  #expire(group: Group, nowMs: number): void {
    for (const { connection, views } of group.members.values()) {
      for (const [view, { expiresAtMs }] of views) {
        if (expiresAtMs <= nowMs) this.leave(connection, view);
      }
    }
  }

  /** Sends to a part of the queue, and to the rest in later turns of the event loop. */
  #send(): void {
    this.#immediate = null;
    if (!this.#isBusy()) {
      const turn = this.#queue.splice(0, sendsPerTurn);
      this.#cork(() => {
        for (const member of turn) send(member);
      });
    }
    if (this.#queue.length > 0) this.#immediate = setImmediate(() => this.#send());
  }
}

function changed(group: Group): void {
  group.hasChanged = true;
  group.shared?.changed();
}

/** Each user once, those who edit first. */
function usersOf(members: Iterable<Member>): PresenceUser[] {
  const users = new Map<string, PresenceUser>();
  for (const { connection, views } of members) {
    const { id, username } = connection.principal.user;
    const fields = [...views.values()].map(({ field }) => field);
    const field = fields.find((each) => each !== null) ?? users.get(id)?.field ?? null;
    users.set(id, { user_id: id, username, field });
  }
  return editorsFirst([...users.values()]);
}

function encode(group: Group): void {
  const own = usersOf(group.members.values());
  const message: PresenceMessage = {
    type: 'presence',
    project_id: group.channel.projectId,
    environment_id: group.channel.environmentId,
    [group.subject.kind]: group.subject.id,
    ...(group.shared?.merge(own) ?? { users: own.slice(0, maxUsers), count: own.length }),
  };
  const json = JSON.stringify(message);
  if (json === group.json) return;
  group.json = json;
  group.encoded = textFrame(json);
}

function send(member: Member): void {
  const { connection, group, views } = member;
  const { encoded } = group;
  if (encoded === null || encoded === member.sent || views.size === 0 || connection.isFull) return;
  member.sent = encoded;
  connection.send(encoded);
}
