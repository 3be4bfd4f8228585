import { openSegment, receive } from '../segment.js';
import { channelQuery, DiaryClient, keepPace } from './client.js';

/** @import { Segment } from '../segment.js' */
/** @import { ChaosChannel } from '../writers.js' */
/** @import { ChaosClient, ClientOptions, Reading } from './client.js' */

/** How long nothing may come before it connects anew, in milliseconds; heartbeats come every second. */
const patienceMs = 6_000;

/** @typedef {{ source?: string, id?: string, type: string, code?: number, reason?: string }} StreamMessage */

/**
 * A client of server-sent events with nothing of ours in it: one channel, and Last-Event-ID when it comes
 * back. It drops what it has been told already, as the protocol says.
 *
 * @implements {ChaosClient}
 */
export class StreamClient extends DiaryClient {
  /** @type {string | null} */
  #cursor = null;
  /** @type {Segment | null} the one that goes on, also over connections */
  #segment = null;
  #left = false;
  #connection = new AbortController();
  /** @type {Promise<void>} resolved while it reads */
  #gate = Promise.resolve();
  /** @type {() => void} */
  #open = () => undefined;
  #reads = true;
  #endPace;

  /**
   * @param {ClientOptions} options
   * @param {ChaosChannel} channel
   * @param {Reading} reading
   */
  constructor(options, channel, reading) {
    super(options);
    this.channels = [channel];
    this.#endPace = keepPace(reading, options.chance, (reads) => this.#setReads(reads));
    void this.#run(channel);
  }

  hurry() {
    this.#endPace();
  }

  leave() {
    this.#left = true;
    this.#endPace();
    this.#connection.abort();
  }

  /** @param {ChaosChannel} channel */
  async #run(channel) {
    while (!this.#left) {
      this.#connection = new AbortController();
      try {
        await this.#connect(channel, this.#connection);
        this.diary.note('the stream ended');
      } catch {
        this.diary.note('lost its connection');
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
    let watchdog = setTimeout(() => connection.abort(), patienceMs);
    try {
      const response = await fetch(`${baseUrl}/api/events?${query.toString()}`, {
        headers,
        signal: connection.signal,
      });
      if (!response.ok || response.body === null) {
        this.diary.sentAway(response.status, 'not a stream', channel);
        await response.body?.cancel();
        return;
      }
      this.diary.note('connected');
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      /** @type {Set<string>} */
      const heard = new Set();
      /** @type {string | null} */
      let id = null;
      /** @type {string | null} */
      let data = null;
      for (let rest = ''; ;) {
        clearTimeout(watchdog);
        await this.#gate;
        watchdog = setTimeout(() => connection.abort(), patienceMs);
        const { done, value } = await reader.read();
        if (done) return;
        const lines = (rest + value).split('\n');
        rest = lines.pop() ?? '';
        for (const line of lines) {
          if (line.startsWith('id:')) id = line.slice(3).trim();
          else if (line.startsWith('data:')) data = line.slice(5);
          else if (line === '') {
            // An event counts when all of it has come: the line may be cut between its fields.
            const goesOn = data === null || this.#take(data, channel, heard);
            if (!goesOn) return;
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
   * @param {Set<string>} heard the ids of this connection
   * @returns {boolean} whether the stream goes on
   */
  #take(text, channel, heard) {
    /** @type {unknown} */
    const parsed = JSON.parse(text);
    const message = /** @type {StreamMessage} */ (parsed);
    const { id } = message;
    if (message.source !== undefined && id !== undefined) {
      if (heard.has(id)) this.diary.wrongs.push(`one connection brought event ${id} twice`);
      heard.add(id);
      if (this.#segment !== null && !this.#segment.keys.has(id)) receive(this.#segment, id);
      return true;
    }
    if (message.type === 'caught_up' && this.#segment === null) {
      const { name, userId } = this.options;
      this.#segment = openSegment({ client: name, userId, channel, named: 'id' });
      this.segments.push(this.#segment);
    } else if (message.type === 'close') {
      this.diary.sentAway(message.code ?? 0, message.reason ?? '');
      return false;
    } else if (message.type === 'resync') {
      this.diary.note(`told to resync: ${message.reason ?? ''}`);
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
    if (reads) this.#open();
    else {
      this.#gate = new Promise((resolve) => {
        this.#open = () => resolve();
      });
    }
  }
}
