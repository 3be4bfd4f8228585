import { decodeCursor } from 'flagcast/testing';
import type { TestChannel } from '../channel.ts';
import type { ChannelContents } from '../contents.ts';
import { openSegment, type Segment } from '../segment.ts';

export interface RecordingClientOptions {
  /** Its kind, for the report. */
  readonly kind: string;
  /** Distinguishes it from the others of its kind. */
  readonly index: number;
  /** The URL of a server or of the proxy. */
  readonly baseUrl: string;
  readonly userId: string;
  /** May reject during a fault. */
  readonly getToken: () => string | Promise<string>;
  /** Returns a number from 0 up to 1. */
  readonly chance: () => number;
}

/** No fault justifies these: the requests of the clients are valid. */
const unexpectedCodes = new Set([400, 404, 405, 426, 1002, 1003, 1007, 1009, 4500, 4504, 4505]);
/** Expected while a fault has renamed the environment whose key the client uses. */
const unknownCodes = new Set([404, 4504]);

/** A client that reconnects for as long as it is open, and records what it receives in segments. */
export abstract class RecordingClient implements Disposable {
  readonly options: RecordingClientOptions;
  readonly channels: readonly TestChannel[];
  /** All segments, including closed ones. */
  readonly segments: Segment[] = [];
  /** What happened to the client, with milliseconds since the epoch, for timelines. */
  readonly log: (readonly [atMs: number, text: string])[] = [];
  /** Behaviour of a server that no fault justifies. */
  readonly violations: string[] = [];
  /** Number of refused or closed connections, by HTTP status or close code. */
  readonly rejections: Record<string, number> = {};

  protected constructor(options: RecordingClientOptions, channels: readonly TestChannel[]) {
    this.options = options;
    this.channels = channels;
  }

  get name(): string {
    return `${this.options.kind} ${this.options.index}`;
  }

  /** Of the log. */
  get lastEntry(): string {
    return this.log.at(-1)?.[1] ?? 'empty log';
  }

  abstract close(): void;

  /** The client's state of a channel; null before the first snapshot, undefined if the client keeps none. */
  contents?(channel: TestChannel): ChannelContents | null;

  /** Ends slow reading. */
  readAtFullSpeed?(): void;

  [Symbol.dispose](): void {
    this.close();
  }

  protected note(text: string): void {
    this.log.push([Date.now(), text]);
  }

  /** Notes the position of a cursor that the client sends or receives, as PostgreSQL writes a snapshot. */
  protected noteCursor(what: string, cursor: string | null | undefined): void {
    const position = decodeCursor(cursor ?? '');
    const text =
      position === null ? 'no cursor' : `${position.xmin}:${position.xmax}:${position.xids.join()}`;
    this.note(`${what} at ${text}`);
  }

  protected openSegment(channel: TestChannel, keyedBy: Segment['keyedBy']): Segment {
    const { userId } = this.options;
    const segment = openSegment({ client: this.name, userId, channel, keyedBy });
    this.segments.push(segment);
    return segment;
  }

  /** Records an HTTP status or close code of the server. `channel`: the one that was requested by its key. */
  protected rejected(code: number, reason: string, channel?: TestChannel): void {
    this.note(`rejected: ${code} ${reason}`);
    this.rejections[code] = (this.rejections[code] ?? 0) + 1;
    const wasRenamed = (channel?.keys?.length ?? 1) > 1;
    if (unexpectedCodes.has(code) && !(wasRenamed && unknownCodes.has(code))) {
      this.violations.push(`it was rejected with ${code} ${reason}`);
    }
  }
}
