/** @import { Segment } from '../segment.js' */
/** @import { ChaosChannel } from '../writers.js' */
/** @import { ChannelContents } from '../ledger.js' */

/**
 * How a client reads: all the time, a little every second, or not at all for a while and then everything.
 *
 * @typedef {'steady' | 'slow' | 'stopping'} Reading
 */

/**
 * `name`: for verdicts. `baseUrl`: of a server, or of the proxy. `getToken`: rejects now and then. `chance`:
 * from 0 up to 1.
 *
 * @typedef {{
 *   readonly name: string,
 *   readonly baseUrl: string,
 *   readonly userId: string,
 *   readonly getToken: () => Promise<string>,
 *   readonly chance: () => number,
 * }} ClientOptions
 */

/**
 * A client of the run, of whatever kind. `segments`: all, also those that have ended. `history`: what
 * happened to it, for timelines. `wrongs`: what no fault excuses. `codes`: how
 * often it was sent away, by HTTP status or close code. `contents`: its state of a channel, where
 * it keeps one; null while it has none. `hurry`: from now on it reads as fast as it can.
 *
 * @typedef {{
 *   readonly name: string,
 *   readonly userId: string,
 *   readonly channels: readonly ChaosChannel[],
 *   readonly segments: readonly Segment[],
 *   readonly history: readonly (readonly [atMs: number, what: string])[],
 *   readonly wrongs: readonly string[],
 *   readonly codes: Readonly<Record<string, number>>,
 *   readonly contents?: (channel: ChaosChannel) => ChannelContents | null,
 *   readonly hurry?: () => void,
 *   readonly leave: () => void,
 * }} ChaosClient
 */

/** No fault of a run is a reason for these: the client asked for nothing that is wrong. */
const wrongCodes = new Set([400, 404, 405, 426, 1002, 1003, 1007, 1009, 4500, 4504, 4505]);
/** A client that asks for a key that the environment does not have at the moment gets these. */
const unknownCodes = new Set([404, 4504]);

/** What happened to a client, and what of it no fault excuses. */
class Diary {
  /** @type {(readonly [atMs: number, what: string])[]} */
  history = [];
  /** @type {string[]} */
  wrongs = [];
  /** @type {Record<string, number>} how often it was sent away, by HTTP status or close code */
  codes = {};

  /** @param {string} what */
  note(what) {
    this.history.push([Date.now(), what]);
  }

  /**
   * It was sent away.
   *
   * @param {number} code an HTTP status or a close code
   * @param {string} reason
   * @param {ChaosChannel} [channel] that it asked for by its key
   */
  sentAway(code, reason, channel) {
    this.note(`sent away: ${code} ${reason}`);
    this.codes[code] = (this.codes[code] ?? 0) + 1;
    const wasRenamed = (channel?.keys?.length ?? 1) > 1;
    if (wrongCodes.has(code) && !(wasRenamed && unknownCodes.has(code))) {
      this.wrongs.push(`it was sent away with ${code} ${reason}`);
    }
  }
}

/** What clients of all kinds have to tell for a verdict. */
export class DiaryClient {
  /** @type {Segment[]} */
  segments = [];
  diary = new Diary();

  /** @param {ClientOptions} options */
  constructor(options) {
    this.options = options;
  }

  get name() {
    return this.options.name;
  }

  get userId() {
    return this.options.userId;
  }

  get history() {
    return this.diary.history;
  }

  get wrongs() {
    return this.diary.wrongs;
  }

  get codes() {
    return this.diary.codes;
  }
}

/**
 * Calls `change` with whether the client reads, again and again, as long as it is `slow` or `stopping`.
 * Returns how to end that; it reads from then on.
 *
 * @param {Reading} reading
 * @param {() => number} chance
 * @param {(reads: boolean) => void} change
 */
export function keepPace(reading, chance, change) {
  /** @type {NodeJS.Timeout | undefined} */
  let timer;
  /** @param {boolean} reads */
  const turn = (reads) => {
    change(reads);
    const pauseMs = reading === 'slow' ? (reads ? 20 : 980) : (reads ? 4_000 : 25_000) * (0.3 + chance());
    timer = setTimeout(turn, pauseMs, !reads);
  };
  if (reading !== 'steady') turn(true);
  return () => {
    clearTimeout(timer);
    change(true);
  };
}

/**
 * The channel in a query string: half of the clients name it by its key, half by its id.
 *
 * @param {ClientOptions} options
 * @param {ChaosChannel} channel
 */
export function channelQuery({ name }, { projectId, environmentId, env }) {
  const isOdd = Number(/\d+$/.exec(name)?.[0] ?? 0) % 2 === 1;
  return new URLSearchParams({ project_id: projectId, ...(isOdd ? { env_id: environmentId } : { env }) });
}
