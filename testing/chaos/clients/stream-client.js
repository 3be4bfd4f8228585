import { openSegment, receive } from '../segment.js';
import { channelQuery, BaseClient, varyReadRate } from './base-client.js';

/** @import { Segment } from '../segment.js' */
/** @import { ChaosChannel } from '../writers.js' */
/** @import { ChaosClient, ClientOptions, ReadRate } from './base-client.js' */

/** The client reconnects after this time without data, in milliseconds; the server sends heartbeats every second. */
const idleTimeoutMs = 6_000;

/** @typedef {{ source?: string, id?: string, type: string, code?: number, reason?: string }} StreamMessage */

/**
 * A client of server-sent events without the client library: one channel, and Last-Event-ID after a reconnect. It drops
 * duplicates, as the protocol requires.
 *
 * @implements {ChaosClient}
 */
export class StreamClient extends BaseClient {
  /** @type {string | null} */
  #cursor = null;
  /** @type {Segment | null} the open segment, which continues over reconnects */
  #segment = null;
  #closed = false;
  #connection = new AbortController();
  /** @type {Promise<void>} resolved while the client reads */
  #readable = Promise.resolve();
  /** @type {() => void} */
  #resume = () => undefined;
  #reads = true;
  #readAtFullRate;

  /**
   * @param {ClientOptions} options
   * @param {ChaosChannel} channel
   * @param {ReadRate} rate
   */
  constructor(options, channel, rate) {
    super(options);
    this.channels = [channel];
    this.#readAtFullRate = varyReadRate(rate, options.chance, (reads) => this.#setReads(reads));
    void this.#run(channel);
  }

  readAtFullSpeed() {
    this.#readAtFullRate();
  }

  close() {
    this.#closed = true;
    this.#readAtFullRate();
    this.#connection.abort();
  }

  /** @param {ChaosChannel} channel */
  async #run(channel) {
    while (!this.#closed) {
      this.#connection = new AbortController();
      try {
        await this.#connect(channel, this.#connection);
        this.clientLog.note('the stream ended');
      } catch {
        this.clientLog.note('lost the connection');
      }
      await new Promise((resolve) => setTimeout(resolve, 300 + 700 * this.options.chance()));
    }
  }

  /**
   * @param {ChaosChannel} channel
   * @param {AbortController} connection
   */
  async #connect(channel, connection) {
    const { baseUrl, getToken } = this.options;
    const query = channelQuery(this.options, channel);
    const headers = {
      Accept: 'text/event-stream',
      Authorization: `Bearer ${await getToken()}`,
      ...(this.#cursor === null ? {} : { 'Last-Event-ID': this.#cursor }),
    };
    let watchdog = setTimeout(() => connection.abort(), idleTimeoutMs);
    try {
      const response = await fetch(`${baseUrl}/api/events?${query.toString()}`, {
        headers,
        signal: connection.signal,
      });
      if (!response.ok || response.body === null) {
        this.clientLog.rejected(response.status, 'not a stream', channel);
        await response.body?.cancel();
        return;
      }
      this.clientLog.note('connected');
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      /** @type {Set<string>} */
      const receivedIds = new Set();
      /** @type {string | null} */
      let id = null;
      /** @type {string | null} */
      let data = null;
      for (let rest = ''; ;) {
        clearTimeout(watchdog);
        await this.#readable;
        watchdog = setTimeout(() => connection.abort(), idleTimeoutMs);
        const { done, value } = await reader.read();
        if (done) return;
        const lines = (rest + value).split('\n');
        rest = lines.pop() ?? '';
        for (const line of lines) {
          if (line.startsWith('id:')) id = line.slice(3).trim();
          else if (line.startsWith('data:')) data = line.slice(5);
          else if (line === '') {
            // An event is complete only at the empty line: the connection may break between its fields.
            const continues = data === null || this.#receive(data, channel, receivedIds);
            if (!continues) return;
            this.#cursor = id ?? this.#cursor;
            id = data = null;
          }
        }
      }
    } finally {
      clearTimeout(watchdog);
      connection.abort();
    }
  }

  /**
   * @param {string} text
   * @param {ChaosChannel} channel
   * @param {Set<string>} receivedIds of this connection
   * @returns {boolean} whether the stream continues
   */
  #receive(text, channel, receivedIds) {
    /** @type {unknown} */
    const parsed = JSON.parse(text);
    const message = /** @type {StreamMessage} */ (parsed);
    const { id } = message;
    if (message.source !== undefined && id !== undefined) {
      if (receivedIds.has(id))
        this.clientLog.violations.push(`it received event ${id} twice on one connection`);
      receivedIds.add(id);
      if (this.#segment !== null && !this.#segment.keys.has(id)) receive(this.#segment, id);
      return true;
    }
    if (message.type === 'caught_up' && this.#segment === null) {
      const { name, userId } = this.options;
      this.#segment = openSegment({ client: name, userId, channel, keyedBy: 'id' });
      this.segments.push(this.#segment);
    } else if (message.type === 'close') {
      this.clientLog.rejected(message.code ?? 0, message.reason ?? '');
      return false;
    } else if (message.type === 'resync') {
      this.clientLog.note(`resync: ${message.reason ?? ''}`);
      if (this.#segment !== null) this.#segment.untilMs = Date.now();
      this.#segment = null;
      this.#cursor = null;
      return false;
    }
    return true;
  }

  /** @param {boolean} reads */
  #setReads(reads) {
    if (reads === this.#reads) return;
    this.#reads = reads;
    if (reads) this.#resume();
    else {
      this.#readable = new Promise((resolve) => {
        this.#resume = () => resolve();
      });
    }
  }
}
