import type { PresenceUser } from '@flagcast/protocol';
import { z } from 'zod';
import type { Relay, RelayTopic } from '../broadcast/relay.js';

export const maxUsers = 20;
/** A server with more users sends the ids of so many: enough to count a user on several servers once. */
const maxIds = 500;
const maxMessageBytes = 32_768;
/** Bytes of a message that are reserved for its keys and its count. */
const envelopeBytes = 128;
/** The least time between two messages of a server about one subject, in milliseconds. */
const minIntervalMs = 250;
/** How often a server repeats its users while others have the subject open, and while none has, in milliseconds. */
const repeatMs = { shared: 3_000, alone: 15_000 };
/** A server that does not repeat its users for so long has none, in milliseconds. */
const timeoutMs = 8_000;

/** The users of one server who have a subject open. */
const message = z
  .object({
    /** The others answer with theirs. */
    asks: z.boolean(),
    users: z
      .array(
        z.object({
          user_id: z.string(),
          username: z.string(),
          field: z
            .string()
            .regex(/^[\w.-]{1,64}$/)
            .nullable(),
        }),
      )
      .max(maxUsers),
    /** The ids of further users. */
    ids: z.array(z.string()).max(maxIds),
    /** The number of all users, more than the above if those did not fit. */
    count: z.int().nonnegative(),
  })
  .refine(({ users, ids, count }) => count >= users.length + ids.length, 'count is too small');
type ServerUsers = z.infer<typeof message>;

export interface SharedPresenceOptions {
  readonly openTopic: Relay['openTopic'];
  /** Identifies the subject. */
  readonly name: string;
  /** The users of this server, those who edit first. */
  readonly ownUsers: () => PresenceUser[];
  /** The users of other servers have changed. `isNew`: of a server that had none before. */
  readonly onChange: (isNew: boolean) => void;
  /** A message could not be decoded, and is ignored. */
  readonly onIgnored: (error: unknown) => void;
}

/**
 * The users of all servers who have one subject open. Each server publishes its own: when they change, when another
 * server asks, and every few seconds, so that those of a server that is gone are forgotten.
 */
export class SharedPresence {
  readonly #options: SharedPresenceOptions;
  readonly #topic: RelayTopic;
  /** By server. */
  readonly #others = new Map<string, { readonly state: ServerUsers; readonly expiresAtMs: number }>();
  #hasChanged = false;
  /** Whether the connection to the others is new. */
  #isNew = true;
  #publishedAtMs = -Infinity;

  constructor(options: SharedPresenceOptions) {
    this.#options = options;
    this.#topic = options.openTopic(options.name, {
      onConnected: () => (this.#isNew = true),
      onMessage: (sender, data) => this.#receive(sender, data),
    });
  }

  /** At most 20 users, those who edit first, and the number of all. */
  merge(own: readonly PresenceUser[]): { readonly users: PresenceUser[]; readonly count: number } {
    const users = new Map(own.map((user) => [user.user_id, user]));
    const ids = new Set(users.keys());
    let unknown = 0;
    for (const { state } of this.#others.values()) {
      for (const user of state.users) {
        ids.add(user.user_id);
        if ((users.get(user.user_id)?.field ?? null) === null) users.set(user.user_id, user);
      }
      for (const id of state.ids) ids.add(id);
      unknown += state.count - state.users.length - state.ids.length;
    }
    return { users: editorsFirst([...users.values()]).slice(0, maxUsers), count: ids.size + unknown };
  }

  /** The users of this server have changed. */
  changed(): void {
    this.#hasChanged = true;
  }

  /** Forgets the users of servers that are gone, and publishes those of this server if it is time. */
  tick(nowMs: number): void {
    for (const [sender, { expiresAtMs }] of this.#others) {
      if (expiresAtMs > nowMs) continue;
      this.#others.delete(sender);
      this.#options.onChange(false);
    }
    const isAlone = this.#others.size === 0;
    const sinceMs = nowMs - this.#publishedAtMs;
    // A server that is alone publishes no changes: the next one that opens the subject asks.
    const isDue = this.#hasChanged && !isAlone && sinceMs >= minIntervalMs;
    const mustRepeat = sinceMs >= (isAlone ? repeatMs.alone : repeatMs.shared);
    if (this.#isNew || isDue || mustRepeat) this.#publish(nowMs, this.#isNew || isAlone);
  }

  close(): void {
    this.#send({ asks: false, users: [], ids: [], count: 0 });
    this.#topic.close();
  }

  #publish(nowMs: number, asks: boolean): void {
    const { maxBytes } = this.#topic;
    if (maxBytes === 0) return;
    this.#hasChanged = false;
    this.#isNew = false;
    this.#publishedAtMs = nowMs;
    const users = this.#options.ownUsers();
    let room = Math.min(maxBytes, maxMessageBytes) - envelopeBytes;
    const fits = (value: PresenceUser | string): boolean => {
      const bytes = Buffer.byteLength(JSON.stringify(value)) + 1;
      if (bytes > room) return false;
      room -= bytes;
      return true;
    };
    this.#send({
      asks,
      users: users.slice(0, maxUsers).filter(fits),
      ids: users
        .slice(maxUsers, maxUsers + maxIds)
        .map(({ user_id: id }) => id)
        .filter(fits),
      count: users.length,
    });
  }

  #send(state: ServerUsers): void {
    this.#topic.publish(Buffer.from(JSON.stringify(state)));
  }

  #receive(sender: string, data: Uint8Array): void {
    let state: ServerUsers;
    try {
      if (data.length > maxMessageBytes) throw new Error(`it has ${data.length} bytes`);
      state = message.parse(JSON.parse(Buffer.from(data).toString('utf8')));
    } catch (error) {
      this.#options.onIgnored(error);
      return;
    }
    const nowMs = performance.now();
    const isNew = !this.#others.has(sender);
    this.#others.set(sender, { state, expiresAtMs: nowMs + timeoutMs });
    this.#options.onChange(isNew);
    if (!state.asks) return;
    // If it is too early, the next tick answers.
    if (nowMs - this.#publishedAtMs >= minIntervalMs) this.#publish(nowMs, false);
    else this.changed();
  }
}

export function editorsFirst(users: readonly PresenceUser[]): PresenceUser[] {
  return [...users.filter(({ field }) => field !== null), ...users.filter(({ field }) => field === null)];
}
