import { WebSocket } from 'ws';
import { openSegment, plainKey, receive } from '../segment.js';
import { channelQuery, DiaryClient, keepPace } from './client.js';

/** @import { Segment } from '../segment.js' */
/** @import { ChaosChannel } from '../writers.js' */
/** @import { ChaosClient, ClientOptions, Reading } from './client.js' */

/** @typedef {{ readonly project_id: string, readonly environment: string, readonly entity_id: string, readonly action: string, readonly timestamp: string }} PlainMessage */

const pingIntervalMs = 2_000;
/** How long nothing may come before it connects anew, in milliseconds; pings are answered. */
const patienceMs = 6_000;
const handshakeLimitMs = 10_000;

/**
 * A client that was written to the specification and nothing else: one channel, the eight keys. It connects
 * again when it has lost its connection, and each connection stands for itself.
 *
 * @implements {ChaosClient}
 */
export class PlainClient extends DiaryClient {
  /** @type {WebSocket | null} */
  #socket = null;
  #left = false;
  #reads = true;
  #heardAtMs = 0;
  /** @type {NodeJS.Timeout | undefined} */
  #timer;
  #ticker;
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
    this.#ticker = setInterval(() => this.#tick(reading), pingIntervalMs);
    void this.#connect();
  }

  hurry() {
    this.#endPace();
  }

  leave() {
    this.#left = true;
    this.#endPace();
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
      this.#again();
      return;
    }
    // Another await has passed.
    if (this.#left) return;
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
      this.#heardAtMs = Date.now();
      segment = openSegment({ client: name, userId, channel, named: 'plain' });
      this.segments.push(segment);
      this.diary.note('connected');
      if (!this.#reads) socket.pause();
    });
    socket.on('message', (data) => {
      this.#heardAtMs = Date.now();
      const text = Buffer.isBuffer(data) ? data.toString('utf8') : '';
      if (segment === null || text.startsWith('{"type":"pong"')) return;
      /** @type {unknown} */
      const parsed = JSON.parse(text);
      const event = /** @type {PlainMessage} */ (parsed);
      const keys = channel.keys ?? [channel.env];
      if (event.project_id !== channel.projectId || !keys.includes(event.environment)) {
        this.diary.wrongs.push(
          `it was told of project ${event.project_id}, environment ${event.environment}`,
        );
      }
      receive(segment, plainKey(event));
    });
    socket.on('unexpected-response', (_request, response) => {
      this.diary.sentAway(response.statusCode ?? 0, 'at the handshake', channel);
      socket.terminate();
    });
    // Each error is followed by the close.
    socket.on('error', () => undefined);
    socket.on('close', (code, reason) => {
      if (segment !== null) {
        segment.untilMs = Date.now();
        if (code === 1006) this.diary.note('lost its connection');
        else this.diary.sentAway(code, reason.toString());
      }
      this.#again();
    });
  }

  #again() {
    if (this.#left) return;
    this.#timer = setTimeout(() => void this.#connect(), 300 + 700 * this.options.chance());
  }

  /** @param {boolean} reads */
  #setReads(reads) {
    this.#reads = reads;
    this.#heardAtMs = Date.now();
    if (this.#socket?.readyState !== WebSocket.OPEN) return;
    if (reads) this.#socket.resume();
    else this.#socket.pause();
  }

  /** @param {Reading} reading */
  #tick(reading) {
    if (this.#socket?.readyState !== WebSocket.OPEN || (!this.#reads && reading === 'stopping')) return;
    if (Date.now() - this.#heardAtMs > patienceMs) {
      this.diary.note('heard nothing for too long');
      this.#socket.terminate();
    } else this.#socket.send('{"type":"ping"}');
  }
}
