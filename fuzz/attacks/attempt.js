import { bearer, channelPath, handshakeHeaders, requestText } from './requests.js';
import { RawConnection } from './raw-connection.js';

/** @import { SeededRandom } from '../random.js' */
/** @import { Answer } from './raw-connection.js' */
/** @import { Target } from './requests.js' */

/**
 * One kind of attack. `run` throws where the server did what it may not; what it may, is its answer.
 *
 * @typedef {{
 *   readonly kind: string,
 *   readonly name: string,
 *   readonly run: (attempt: Attempt) => Promise<void>,
 * }} Attack
 */

/** How long the server may take for an answer that it owes, in milliseconds. */
const answerLimitMs = 15_000;
/** How long an answer that it does not owe is waited for, in milliseconds. */
const patienceMs = 100;
const addresses = 50;
/** In base64: the beginning of every token here. Three letters of it are in some answer's Sec-WebSocket-Accept by chance. */
const tokenBeginning = Buffer.from('{"alg":').toString('base64url').slice(0, -1);

/** One attack under way: what it may use, and what it has opened. */
export class Attempt {
  /**
   * @param {SeededRandom} random
   * @param {Target} target
   * @param {(connection: RawConnection, drip: Buffer | null) => void} hold
   */
  constructor(random, target, hold) {
    this.random = random;
    this.target = target;
    /** @type {RawConnection[]} */
    this.connections = [];
    /** Of the held ones. @type {Set<RawConnection>} */
    this.held = new Set();
    this.holdOn = hold;
  }

  open() {
    // The bystanders come from 127.0.0.1: what an address may is not theirs to share.
    const connection = new RawConnection(this.target.port, `127.0.0.${2 + this.random.below(addresses)}`);
    this.connections.push(connection);
    return connection;
  }

  /**
   * Leaves the connection as it is until many more are held; `drip` is written to it byte by byte meanwhile.
   *
   * @param {RawConnection} connection
   * @param {Buffer | null} [drip]
   */
  hold(connection, drip = null) {
    this.held.add(connection);
    this.holdOn(connection, drip);
  }

  /** A plain client that is let in; null where the server is full. */
  async openPlain() {
    return await this.#openSocket({ Authorization: bearer(this.random, this.target) });
  }

  /** A flagcast.v1 client that is let in and greeted; null where the server is full. */
  async openV1() {
    const connection = await this.#openSocket({
      'Sec-WebSocket-Protocol': `flagcast.v1, bearer.${this.random.pick(this.target.tokens)}`,
    });
    if (connection === null) return null;
    await this.owed(
      connection,
      ({ texts, closeCode }) => texts.length > 0 || closeCode !== null,
      'a greeting',
    );
    return connection.answer.closeCode === null ? connection : null;
  }

  /** Either of the two. */
  async openEither() {
    return this.random.once(2) ? await this.openPlain() : await this.openV1();
  }

  /** @param {Record<string, string>} headers */
  async #openSocket(headers) {
    const connection = this.open();
    const all = handshakeHeaders(this.random, headers);
    connection.write(requestText('GET', channelPath(this.target), all));
    await this.owed(connection, ({ status }) => status !== null, 'an answer to a good handshake');
    const { status } = connection.answer;
    if (isFull(status)) return null;
    if (status !== 101) throw new Error(`a good handshake was answered with ${status}`);
    return connection;
  }

  /**
   * @param {RawConnection} connection
   * @param {(answer: Answer) => boolean} isThere
   * @param {string} what
   */
  async owed(connection, isThere, what) {
    await connection.until((answer) => isThere(answer) || answer.end !== 'open', answerLimitMs);
    if (isThere(connection.answer)) return;
    const { end } = connection.answer;
    throw new Error(
      end === 'open' ? `no sign of ${what} within ${answerLimitMs / 1_000} s` : `${end} without ${what}`,
    );
  }

  /**
   * The server has to answer with one of these; that it is full is an answer at all times.
   *
   * @param {RawConnection} connection
   * @param {readonly number[]} statuses
   */
  async refusedWith(connection, statuses) {
    await this.owed(connection, ({ status }) => status !== null, `HTTP ${statuses.join(' or ')}`);
    const { status, head } = connection.answer;
    if (isFull(status) || (status !== null && statuses.includes(status))) return;
    throw new Error(`answered with ${head.split('\r\n', 1)[0] ?? ''}, and not with ${statuses.join(' or ')}`);
  }

  /**
   * The server has to close the WebSocket with one of these.
   *
   * @param {RawConnection} connection
   * @param {readonly number[]} codes
   */
  async closedWith(connection, codes) {
    await this.owed(connection, ({ closeCode }) => closeCode !== null, `close ${codes.join(' or ')}`);
    const { closeCode } = connection.answer;
    if (closeCode !== null && codes.includes(closeCode)) return;
    throw new Error(`closed with ${closeCode ?? 'nothing'}, and not with ${codes.join(' or ')}`);
  }

  /**
   * The server may answer or not: what was sent may be the beginning of something.
   *
   * @param {RawConnection} connection
   */
  async seen(connection) {
    const isAnswer = (/** @type {Answer} */ { status, closeCode, end }) =>
      end !== 'open' || closeCode !== null || (status !== null && status !== 101);
    await connection.until(isAnswer, patienceMs);
  }

  /** What no answer may hold, whatever was asked. Throws where one does. */
  check() {
    for (const { answer } of this.connections) {
      const broken = answer.statuses.find((status) => status >= 500 && ![501, 503, 505].includes(status));
      if (broken !== undefined) throw new Error(`answered with ${broken}`);
      if (/^sec-websocket-extensions/im.test(answer.head)) throw new Error('an extension was agreed on');
      if (/^x-injected/im.test(answer.head)) throw new Error('a header was injected');
      if (answer.head.includes(tokenBeginning)) throw new Error('a token came back');
    }
  }

  /** How it went, in a word or two. */
  outcome() {
    const [connection] = this.connections;
    if (connection === undefined) return 'nothing';
    if (this.held.has(connection)) return 'held';
    const { status, closeCode, end } = connection.answer;
    if (closeCode !== null) return `close ${closeCode}`;
    if (status !== null) return `HTTP ${status}`;
    return end === 'open' ? 'silence' : end;
  }

  /** Drops what is not held. */
  end() {
    for (const connection of this.connections) if (!this.held.has(connection)) connection.drop();
  }
}

/** @param {number | null} status */
function isFull(status) {
  return status === 503 || status === 429;
}
