import type { EventMessage } from '#protocol';
import type { Channel } from '../channel.js';
import type { TabChannel } from './messages.js';

interface Entry {
  readonly event?: EventMessage;
  readonly cursor?: string | undefined;
}

/**
 * What a tab remembers of a channel, so that it can lead: the events and cursors that came, in order. The
 * places that two tabs know are the same, as they have heard the same leader.
 */
export interface ChannelRecord {
  readonly channel: Channel;
  /** With the newest key of the environment, and its id once it is known. */
  name: TabChannel;
  /** The missed events have come, and the newer ones follow. */
  live: boolean;
  /** Whether the server can read the state of features. */
  hasState: boolean;
  /** How many snapshots this tab has asked for, which of them came last, and which is needed. */
  asked: number;
  loaded: number;
  needed: number;
  /** No message about the channel has come yet. */
  readonly isBlank: () => boolean;
  readonly add: (event: EventMessage) => void;
  /** All that came before is before this cursor. */
  readonly mark: (cursor: string) => void;
  /** Replaces the record by that of another channel of the same environment. */
  readonly copy: (other: ChannelRecord) => void;
  readonly entries: () => Entry[];
  /** The history has broken off. */
  readonly clear: () => void;
  /** What came after the first of the cursors that is known here; null where none is. */
  readonly since: (cursors: readonly string[]) => readonly EventMessage[] | null;
  /** The newest cursors, the newest first. */
  readonly cursors: () => readonly string[];
}

/** As many missed events as the server itself brings. */
const entriesKept = 1_000;
const cursorsTold = 32;

/** `environmentId` is null where the environment is known by its key only. */
export function createRecord(channel: Channel, environmentId: string | null): ChannelRecord {
  let blank = true;
  let entries: Entry[] = [];
  const push = (entry: Entry): void => {
    blank = false;
    entries.push(entry);
    if (entries.length > entriesKept) entries.shift();
  };
  const indexOf = (cursor: string): number => entries.findIndex((entry) => entry.cursor === cursor);
  const { projectId, env } = channel;
  return {
    channel,
    name: { projectId, env, environmentId },
    live: false,
    hasState: true,
    asked: 0,
    loaded: 0,
    needed: 0,
    isBlank: () => blank,
    add: (event) => push({ event, cursor: event.cursor }),
    mark(cursor) {
      // The earlier of two places with one cursor is the safe one: from there nothing is missed.
      if (indexOf(cursor) < 0) push({ cursor });
    },
    copy(other) {
      blank = false;
      this.live = other.live;
      entries = other.entries();
    },
    entries: () => [...entries],
    clear() {
      blank = false;
      entries = [];
    },
    since(cursors) {
      for (const cursor of cursors) {
        const index = indexOf(cursor);
        if (index >= 0) return entries.slice(index + 1).flatMap(({ event }) => event ?? []);
      }
      return null;
    },
    cursors: () =>
      entries
        .flatMap(({ cursor }) => cursor ?? [])
        .slice(-cursorsTold)
        .reverse(),
  };
}
