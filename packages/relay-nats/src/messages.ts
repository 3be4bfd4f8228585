import type { ControlEntry, FlagEvent } from 'flagcast/support';
import { z } from 'zod';

// Ids of 64 bits are strings in JSON. Controls and events are not checked: a server of the same version wrote them.
const id = z.string().transform(BigInt);
const coverage = z.object({
  xmin: id,
  xmax: id,
  listed: z.enum(['open', 'delivered']),
  xids: z.array(id).readonly(),
});
const partialReads = z.array(z.object({ xid: id, afterSeq: id })).readonly();

/** A reader's progress after a read. */
const progress = z.object({
  read: z.object({ coverage, durable: coverage, partial: partialReads, durablePartial: partialReads }),
  /** The coverage that cursors get. */
  position: coverage,
  /** The xmax of the read's snapshot. */
  xmax: id,
  isComplete: z.boolean(),
  /** Identifies the reader and its connection to the database: the database may crash between two connections. */
  readBy: z.string(),
});
export type Progress = z.infer<typeof progress>;

const common = {
  /** Identifies the log, as long as no commit is lost and each reader continues from all of them. */
  log: z.string(),
  reader: z.string(),
  progress,
  /** The requests that this read answers. */
  answers: z.array(z.string()).readonly(),
};

/** What one read, or several reads together, brought. Its events are in messages of their own. */
const commit = z.object({
  ...common,
  /** The sequence of the commit before; 0 for the first one. */
  previous: z.number(),
  /** Whether the log has everything between the commit before and this one. If not, followers read the database once. */
  continues: z.boolean(),
  /** The xmax of the snapshot of the newest gap: the log has everything after later positions. */
  unbrokenSince: id,
  /** When it was read, in milliseconds since the epoch. */
  seenAtMs: z.number(),
  /** Changes of channels and rights, for all servers. */
  controls: z.array(z.custom<ControlEntry>()).readonly(),
  /** By channel, the sequences of its messages; null if an event is too large for the log. */
  channels: z.array(z.tuple([z.string(), z.array(z.number()).readonly().nullable()]).readonly()).readonly(),
});
export type Commit = z.infer<typeof commit>;

/** Sent regularly by the leader. Everything up to `progress` is in the log up to `commit`. */
const heartbeat = z.object({
  ...common,
  /** The sequence of the newest commit. */
  commit: z.number(),
  /** How long ago the leader has read the database, in milliseconds; null if it has not yet. */
  readAgoMs: z.number().nullable(),
  /** What is wrong with the triggers that write the event log; null if nothing is. */
  triggerProblem: z.string().nullable(),
  /** The leader stops: another server should take over. */
  leaves: z.boolean(),
});
export type Heartbeat = z.infer<typeof heartbeat>;

const encoder = new TextEncoder();

/** An event with its place among those of its commit: the approvals feed and the channels share events. */
export type CommittedEvent = FlagEvent & { readonly place: number };

export function encode(message: Commit | Heartbeat | CommittedEvent | string | null): Uint8Array {
  return encoder.encode(
    JSON.stringify(message, (_key, value: unknown) => (typeof value === 'bigint' ? value.toString() : value)),
  );
}

/** @throws Error if it is not a commit. */
export function decodeCommit(data: Uint8Array): Commit {
  return commit.parse(parse(data));
}

/** @throws Error if it is not a heartbeat. */
export function decodeHeartbeat(data: Uint8Array): Heartbeat {
  return heartbeat.parse(parse(data));
}

/** @throws Error if it is not a request for a read. */
export function decodeRequest(data: Uint8Array): string {
  return z.string().parse(parse(data));
}

/** Stands for events that are too large. */
export const tooLarge: Uint8Array = encode(null);

/** A channel's events in messages of at most `maxBytes`; null if a single event is larger. */
export function encodeEvents(events: readonly CommittedEvent[], maxBytes: number): Uint8Array[] | null {
  const texts = events.map((event) => encode(event));
  if (texts.some((text) => text.length + 2 > maxBytes)) return null;
  const messages: Uint8Array[][] = [];
  let length = Infinity;
  for (const text of texts) {
    // With a bracket or comma before it, and the closing bracket.
    if (length + text.length + 2 > maxBytes) {
      messages.push([]);
      length = 0;
    }
    messages.at(-1)?.push(Buffer.from(length === 0 ? '[' : ','), text);
    length += text.length + 1;
  }
  return messages.map((parts) => Buffer.concat([...parts, Buffer.from(']')]));
}

/**
 * The events of a message; null if they are too large for the log.
 *
 * @throws Error if it is not a list of events.
 */
export function decodeEvents(data: Uint8Array): CommittedEvent[] | null {
  const list = parse(data);
  if (list === null) return null;
  if (!Array.isArray(list)) throw new Error('a message of the relay is not a list of events');
  return (list as (Omit<CommittedEvent, 'xid'> & { readonly xid: string })[]).map((event) => ({
    ...event,
    featureJson: event.featureJson,
    pendingChangeJson: event.pendingChangeJson,
    xid: BigInt(event.xid),
  }));
}

function parse(data: Uint8Array): unknown {
  return JSON.parse(Buffer.from(data).toString('utf8'));
}
