import { WebSocket } from 'ws';
import { openSegment, plainKey, receive } from '../segment.js';
import { channelQuery, BaseClient, varyReadRate } from './base-client.js';

/** @import { Segment } from '../segment.js' */
/** @import { ChaosChannel } from '../writers.js' */
/** @import { ChaosClient, ClientOptions, ReadRate } from './base-client.js' */

/** @typedef {{ readonly project_id: string, readonly environment: string, readonly entity_id: string, readonly action: string, readonly timestamp: string }} PlainMessage */

const pingIntervalMs = 2_000;
/** The client reconnects after this time without data, in milliseconds; the server answers its pings. */
const idleTimeoutMs = 6_000;
const handshakeLimitMs = 10_000;

/**
 * A client that implements only the plain dialect: one channel, events of eight keys. It reconnects after a lost
 * connection, without a resume.
 *
 * @implements {ChaosClient}
 */
export class PlainClient extends BaseClient {
  /** @type {WebSocket | null} */
  #socket = null;
  #closed = false;
  #reads = true;
  #lastReceivedAtMs = 0;
  /** @type {NodeJS.Timeout | undefined} */
  #timer;
  #ticker;
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
    this.#ticker = setInterval(() => this.#tick(rate), pingIntervalMs);
    void this.#connect();
  }

  readAtFullSpeed() {
    this.#readAtFullRate();
  }

  close() {
    this.#closed = true;
    this.#readAtFullRate();
    clearTimeout(this.#timer);
    clearInterval(this.#ticker);
    this.#socket?.terminate();
  }

  async #connect() {
    const { baseUrl, getToken, name, userId } = this.options;
    const [channel] = this.channels;
    if (channel === undefined) return;
    let token = '';
    try {
      token = await getToken();
    } catch {
      this.#scheduleReconnect();
      return;
    }
    if (this.#closed) return;
    const query = channelQuery(this.options, channel);
    const socket = new WebSocket(`${baseUrl.replace('http', 'ws')}/api/ws?${query.toString()}`, {
      headers: { Authorization: `Bearer ${token}` },
      handshakeTimeout: handshakeLimitMs,
      perMessageDeflate: false,
    });
    this.#socket = socket;
    /** @type {Segment | null} */
    let segment = null;
    socket.on('open', () => {
      this.#lastReceivedAtMs = Date.now();
      segment = openSegment({ client: name, userId, channel, keyedBy: 'plain' });
      this.segments.push(segment);
      this.clientLog.note('connected');
      if (!this.#reads) socket.pause();
    });
    socket.on('message', (data) => {
      this.#lastReceivedAtMs = Date.now();
      const text = Buffer.isBuffer(data) ? data.toString('utf8') : '';
      if (segment === null || text.startsWith('{"type":"pong"')) return;
      /** @type {unknown} */
      const parsed = JSON.parse(text);
      const event = /** @type {PlainMessage} */ (parsed);
      const keys = channel.keys ?? [channel.env];
      if (event.project_id !== channel.projectId || !keys.includes(event.environment)) {
        this.clientLog.violations.push(
          `it received an event of project ${event.project_id}, environment ${event.environment}`,
        );
      }
      receive(segment, plainKey(event));
    });
    socket.on('unexpected-response', (_request, response) => {
      this.clientLog.rejected(response.statusCode ?? 0, 'at the handshake', channel);
      socket.terminate();
    });
    // A close event follows each error.
    socket.on('error', () => undefined);
    socket.on('close', (code, reason) => {
      if (segment !== null) {
        segment.untilMs = Date.now();
        if (code === 1006) this.clientLog.note('lost the connection');
        else this.clientLog.rejected(code, reason.toString());
      }
      this.#scheduleReconnect();
    });
  }

  #scheduleReconnect() {
    if (this.#closed) return;
    this.#timer = setTimeout(() => void this.#connect(), 300 + 700 * this.options.chance());
  }

  /** @param {boolean} reads */
  #setReads(reads) {
    this.#reads = reads;
    this.#lastReceivedAtMs = Date.now();
    if (this.#socket?.readyState !== WebSocket.OPEN) return;
    if (reads) this.#socket.resume();
    else this.#socket.pause();
  }

  /** @param {ReadRate} rate */
  #tick(rate) {
    if (this.#socket?.readyState !== WebSocket.OPEN || (!this.#reads && rate === 'pausing')) return;
    if (Date.now() - this.#lastReceivedAtMs > idleTimeoutMs) {
      this.clientLog.note('idle time-out');
      this.#socket.terminate();
    } else this.#socket.send('{"type":"ping"}');
  }
}
