import type { ControlEntry, FlagEvent, PartialRead, ReadState } from '../events/event.js';
import type { Coverage } from '../events/position.js';

/** Where a reader stood after a read. */
export interface Stance {
  readonly read: ReadState;
  /** The coverage that cursors get. */
  readonly position: Coverage;
  /** The xmax of the read's snapshot. */
  readonly xmax: bigint;
  readonly isComplete: boolean;
  /** Names the reader and its connection to the database: between two connections a crash may lie. */
  readonly readBy: string;
}

/** One entry of the log: what one read brought, or several together. Its events are in messages of their own. */
export interface Commit {
  /** Names the log, as long as none of its commits is lost and each reader goes on from all that it has. */
  readonly log: string;
  /** Who read it. */
  readonly reader: string;
  /** Where in the log the commit before is; 0: there was none. */
  readonly previous: number;
  /**
   * Whether the log has all that came between the commit before and this one. False at a break: whoever has been
   * given the log up to it has to read the database once.
   */
  readonly continues: boolean;
  /** The xmax of the snapshot of the newest break: whoever stands later has missed nothing but what the log has. */
  readonly unbrokenSince: bigint;
  readonly stance: Stance;
  /** When it was read, in milliseconds since the epoch. */
  readonly seenAtMs: number;
  /** Changes of channels and rights, for all servers. */
  readonly controls: readonly ControlEntry[];
  /** By channel, where in the log its events are; null where they are too large for it. */
  readonly channels: readonly (readonly [channel: string, sequences: readonly number[] | null])[];
  /** The questions that this read answers. */
  readonly answers: readonly string[];
}

/** Says that the reader lives, and where it stands while there are no events. */
export interface Beat {
  readonly log: string;
  readonly reader: string;
  /** The newest commit, as the log numbers it. Everything up to `stance` is in the log up to there. */
  readonly commit: number;
  readonly stance: Stance;
  /** How long ago the database was read, in milliseconds. */
  readonly readAgoMs: number;
  readonly answers: readonly string[];
  /** What is wrong with the triggers that write the event log; null where nothing is. */
  readonly triggerProblem: string | null;
  /** The reader ends: somebody else is to read. */
  readonly leaves: boolean;
}

const encoder = new TextEncoder();

/** Ids of 64 bits are no JSON numbers. */
function encode(message: unknown): Uint8Array {
  return encoder.encode(
    JSON.stringify(message, (_key, value: unknown) => (typeof value === 'bigint' ? value.toString() : value)),
  );
}

export function encodeCommit(commit: Commit): Uint8Array {
  return encode(commit);
}

export function encodeBeat(beat: Beat): Uint8Array {
  return encode(beat);
}

/**
 * A channel's events, in as many messages as it takes with at most `maxBytes` each; null where one event alone
 * is larger.
 */
export function encodeEvents(events: readonly FlagEvent[], maxBytes: number): Uint8Array[] | null {
  const texts = events.map((event) => encode(event));
  if (texts.some((text) => text.length + 2 > maxBytes)) return null;
  const messages: Uint8Array[] = [];
  let parts: Uint8Array[] = [];
  let length = 1;
  for (const text of texts) {
    if (length + text.length + 1 > maxBytes) {
      messages.push(asList(parts));
      parts = [];
      length = 1;
    }
    parts.push(text);
    length += text.length + 1;
  }
  if (parts.length > 0) messages.push(asList(parts));
  return messages;
}

/** The question of somebody who follows for a read that begins after it. */
export function encodeAsk(question: string): Uint8Array {
  return encode({ question });
}

/** Throws where it is not one. */
export function decodeAsk(data: Uint8Array): string {
  return String(decode(data)['question']);
}

/** In place of events that are too large. */
export const tooLarge: Uint8Array = encode(null);

function asList(parts: readonly Uint8Array[]): Uint8Array {
  const separated = parts.flatMap((part, index) => (index === 0 ? [part] : [Buffer.from(','), part]));
  return Buffer.concat([Buffer.from('['), ...separated, Buffer.from(']')]);
}

type Fields = Readonly<Record<string, unknown>>;

/** Throws where it is not one. */
export function decodeCommit(data: Uint8Array): Commit {
  const fields = decode(data);
  return {
    log: String(fields['log']),
    reader: String(fields['reader']),
    previous: Number(fields['previous']),
    continues: fields['continues'] === true,
    unbrokenSince: asId(fields['unbrokenSince']),
    stance: asStance(fields['stance']),
    seenAtMs: Number(fields['seenAtMs']),
    // They were written by a server of the same version.
    controls: asArray(fields['controls']) as ControlEntry[],
    channels: asArray(fields['channels']).map((entry) => {
      const [channel, sequences] = asArray(entry);
      return [String(channel), sequences === null ? null : asArray(sequences).map(Number)];
    }),
    answers: asArray(fields['answers']).map(String),
  };
}

/** Throws where it is not one. */
export function decodeBeat(data: Uint8Array): Beat {
  const fields = decode(data);
  return {
    log: String(fields['log']),
    reader: String(fields['reader']),
    commit: Number(fields['commit']),
    stance: asStance(fields['stance']),
    readAgoMs: Number(fields['readAgoMs']),
    answers: asArray(fields['answers']).map(String),
    triggerProblem: typeof fields['triggerProblem'] === 'string' ? fields['triggerProblem'] : null,
    leaves: fields['leaves'] === true,
  };
}

/** Null: they are too large for the log. Throws where it is no list of events. */
export function decodeEvents(data: Uint8Array): FlagEvent[] | null {
  const list: unknown = JSON.parse(Buffer.from(data).toString('utf8'));
  if (list === null) return null;
  // They were written by a server of the same version, from rows that it had checked.
  return asArray(list).map((each) => {
    const event = each as FlagEvent;
    return { ...event, featureJson: event.featureJson, xid: asId(event.xid) };
  });
}

function decode(data: Uint8Array): Fields {
  const value: unknown = JSON.parse(Buffer.from(data).toString('utf8'));
  if (typeof value !== 'object' || value === null) throw new Error('a message of the relay is not an object');
  return value as Fields;
}

function asArray(value: unknown): unknown[] {
  if (!Array.isArray(value)) throw new Error('a message of the relay lacks a list');
  return value;
}

function asId(value: unknown): bigint {
  if (typeof value !== 'string') throw new Error('a message of the relay lacks an id');
  return BigInt(value);
}

function asStance(value: unknown): Stance {
  const { read, position, xmax, isComplete, readBy } = value as Fields;
  const { coverage, durable, partial, durablePartial } = read as Fields;
  return {
    read: {
      coverage: asCoverage(coverage),
      durable: asCoverage(durable),
      partial: asArray(partial).map(asPartialRead),
      durablePartial: asArray(durablePartial).map(asPartialRead),
    },
    position: asCoverage(position),
    xmax: asId(xmax),
    isComplete: isComplete === true,
    readBy: String(readBy),
  };
}

function asPartialRead(value: unknown): PartialRead {
  const { xid, afterSeq } = value as Fields;
  return { xid: asId(xid), afterSeq: asId(afterSeq) };
}

function asCoverage(value: unknown): Coverage {
  const { xmin, xmax, listed, xids } = value as Fields;
  return {
    xmin: asId(xmin),
    xmax: asId(xmax),
    listed: listed === 'open' ? 'open' : 'delivered',
    xids: asArray(xids).map(asId),
  };
}
