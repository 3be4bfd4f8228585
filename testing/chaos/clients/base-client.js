/** @import { Segment } from '../segment.js' */
/** @import { ChaosChannel } from '../writers.js' */
/** @import { ChannelContents } from '../history.js' */

/**
 * How a client reads: always, for a short time every second, or with long pauses.
 *
 * @typedef {'steady' | 'slow' | 'pausing'} ReadRate
 */

/**
 * `name`: for the report. `baseUrl`: the URL of a server or of the proxy. `getToken`: rejects during a fault. `chance`:
 * returns a number from 0 up to 1.
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
 * A client of the run, of any kind. `segments`: all segments, including closed ones. `log`: what happened to the client,
 * for timelines. `violations`: behaviour of a server that no fault excuses. `rejections`: number of refused or closed
 * connections, by HTTP status or close code. `contents`: the client's state of a channel, for clients that keep one; null
 * before the first snapshot. `readAtFullSpeed`: ends slow reading.
 *
 * @typedef {{
 *   readonly name: string,
 *   readonly userId: string,
 *   readonly channels: readonly ChaosChannel[],
 *   readonly segments: readonly Segment[],
 *   readonly log: readonly (readonly [atMs: number, text: string])[],
 *   readonly violations: readonly string[],
 *   readonly rejections: Readonly<Record<string, number>>,
 *   readonly contents?: (channel: ChaosChannel) => ChannelContents | null,
 *   readonly readAtFullSpeed?: () => void,
 *   readonly close: () => void,
 * }} ChaosClient
 */

/** No fault justifies these: the requests of the clients are valid. */
const unexpectedCodes = new Set([400, 404, 405, 426, 1002, 1003, 1007, 1009, 4500, 4504, 4505]);
/** Expected while a fault has renamed the environment whose key the client uses. */
const unknownCodes = new Set([404, 4504]);

/** Records what happened to a client. */
class ClientLog {
  /** @type {(readonly [atMs: number, text: string])[]} */
  entries = [];
  /** @type {string[]} */
  violations = [];
  /** @type {Record<string, number>} by HTTP status or close code */
  rejections = {};

  /** @param {string} text */
  note(text) {
    this.entries.push([Date.now(), text]);
  }

  /**
   * Records that a server refused or closed a connection.
   *
   * @param {number} code an HTTP status or a close code
   * @param {string} reason
   * @param {ChaosChannel} [channel] requested by its key
   */
  rejected(code, reason, channel) {
    this.note(`rejected: ${code} ${reason}`);
    this.rejections[code] = (this.rejections[code] ?? 0) + 1;
    const wasRenamed = (channel?.keys?.length ?? 1) > 1;
    if (unexpectedCodes.has(code) && !(wasRenamed && unknownCodes.has(code))) {
      this.violations.push(`it was rejected with ${code} ${reason}`);
    }
  }
}

/** What all kinds of clients have in common. */
export class BaseClient {
  /** @type {Segment[]} */
  segments = [];
  clientLog = new ClientLog();

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

  get log() {
    return this.clientLog.entries;
  }

  get violations() {
    return this.clientLog.violations;
  }

  get rejections() {
    return this.clientLog.rejections;
  }
}

/**
 * Switches reading on and off through `setReads` as long as the rate is not `steady`. Returns a function that ends this
 * and leaves reading on.
 *
 * @param {ReadRate} rate
 * @param {() => number} chance
 * @param {(reads: boolean) => void} setReads
 */
export function varyReadRate(rate, chance, setReads) {
  /** @type {NodeJS.Timeout | undefined} */
  let timer;
  /** @param {boolean} reads */
  const toggle = (reads) => {
    setReads(reads);
    const pauseMs = rate === 'slow' ? (reads ? 20 : 980) : (reads ? 4_000 : 25_000) * (0.3 + chance());
    timer = setTimeout(toggle, pauseMs, !reads);
  };
  if (rate !== 'steady') toggle(true);
  return () => {
    clearTimeout(timer);
    setReads(true);
  };
}

/**
 * Returns the channel as a query string: half of the clients use the environment's key, half its id.
 *
 * @param {ClientOptions} options
 * @param {ChaosChannel} channel
 */
export function channelQuery({ name }, { projectId, environmentId, env }) {
  const isOdd = Number(/\d+$/.exec(name)?.[0] ?? 0) % 2 === 1;
  return new URLSearchParams({ project_id: projectId, ...(isOdd ? { env_id: environmentId } : { env }) });
}
