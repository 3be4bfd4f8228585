import { bearer, channelPath, handshakeHeaders, requestText } from './requests.js';
import { RawConnection } from './raw-connection.js';

/** @import { SeededRandom } from '../../testkit/random.ts' */
/** @import { Answer } from './raw-connection.js' */
/** @import { Target } from './requests.js' */

/**
 * A kind of attack. `run` throws if the server violates the protocol.
 *
 * @typedef {{
 *   readonly kind: string,
 *   readonly name: string,
 *   readonly run: (attempt: Attempt) => Promise<void>,
 * }} Attack
 */

/** Time limit for a required answer, in milliseconds. */
const answerLimitMs = 15_000;
/** Time to wait for an optional answer, in milliseconds. */
const optionalAnswerMs = 100;
const addresses = 50;
/** Prefix of every JWT, long enough not to occur in a Sec-WebSocket-Accept by chance. */
const tokenPrefix = Buffer.from('{"alg":').toString('base64url').slice(0, -1);

/** An attack in progress, with its connections. */
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
    /** The held connections. @type {Set<RawConnection>} */
    this.held = new Set();
    this.onHold = hold;
  }

  open() {
    // The control clients use 127.0.0.1; other addresses keep the limits per address apart.
    const connection = new RawConnection(this.target.port, `127.0.0.${2 + this.random.below(addresses)}`);
    this.connections.push(connection);
    return connection;
  }

  /**
   * Keeps the connection open until the maximum of held connections is reached; writes `drip` to it byte by byte meanwhile.
   *
   * @param {RawConnection} connection
   * @param {Buffer | null} [drip]
   */
  hold(connection, drip = null) {
    this.held.add(connection);
    this.onHold(connection, drip);
  }

  /** Opens a plain connection; null if the server is at a limit. */
  async openPlain() {
    return await this.#openSocket({ Authorization: bearer(this.random, this.target) });
  }

  /** Opens a flagcast.v1 connection and waits for `hello`; null if the server is at a limit. */
  async openV1() {
    const connection = await this.#openSocket({
      'Sec-WebSocket-Protocol': `flagcast.v1, bearer.${this.random.pick(this.target.tokens)}`,
    });
    if (connection === null) return null;
    await this.expectAnswer(
      connection,
      ({ texts, closeCode }) => texts.length > 0 || closeCode !== null,
      'hello',
    );
    return connection.answer.closeCode === null ? connection : null;
  }

  /** Opens a connection of either dialect. */
  async openEither() {
    return this.random.oneIn(2) ? await this.openPlain() : await this.openV1();
  }

  /** @param {Record<string, string>} headers */
  async #openSocket(headers) {
    const connection = this.open();
    const all = handshakeHeaders(this.random, headers);
    connection.write(requestText('GET', channelPath(this.target), all));
    await this.expectAnswer(connection, ({ status }) => status !== null, 'an answer to a valid handshake');
    const { status } = connection.answer;
    if (isLimited(status)) return null;
    if (status !== 101) throw new Error(`a valid handshake was answered with ${status}`);
    return connection;
  }

  /**
   * Waits until the server has given the answer. Throws if it does not in time.
   *
   * @param {RawConnection} connection
   * @param {(answer: Answer) => boolean} isThere
   * @param {string} expected for the error
   */
  async expectAnswer(connection, isThere, expected) {
    await connection.until((answer) => isThere(answer) || answer.end !== 'open', answerLimitMs);
    if (isThere(connection.answer)) return;
    const { end } = connection.answer;
    throw new Error(
      end === 'open' ? `no ${expected} within ${answerLimitMs / 1_000} s` : `${end} without ${expected}`,
    );
  }

  /**
   * The server must answer with one of the statuses; a status for a limit is always allowed.
   *
   * @param {RawConnection} connection
   * @param {readonly number[]} statuses
   */
  async expectStatus(connection, statuses) {
    await this.expectAnswer(connection, ({ status }) => status !== null, `HTTP ${statuses.join(' or ')}`);
    const { status, head } = connection.answer;
    if (isLimited(status) || (status !== null && statuses.includes(status))) return;
    throw new Error(`answered with ${head.split('\r\n', 1)[0] ?? ''}, expected ${statuses.join(' or ')}`);
  }

  /**
   * The server must close the WebSocket with one of the codes.
   *
   * @param {RawConnection} connection
   * @param {readonly number[]} codes
   */
  async expectClose(connection, codes) {
    await this.expectAnswer(connection, ({ closeCode }) => closeCode !== null, `close ${codes.join(' or ')}`);
    const { closeCode } = connection.answer;
    if (closeCode !== null && codes.includes(closeCode)) return;
    throw new Error(`closed with ${closeCode ?? 'nothing'}, expected ${codes.join(' or ')}`);
  }

  /**
   * Waits briefly: the server may answer or not, because the input may be incomplete.
   *
   * @param {RawConnection} connection
   */
  async waitBriefly(connection) {
    const isAnswer = (/** @type {Answer} */ { status, closeCode, end }) =>
      end !== 'open' || closeCode !== null || (status !== null && status !== 101);
    await connection.until(isAnswer, optionalAnswerMs);
  }

  /** Throws if an answer has something that no answer may have. */
  check() {
    for (const { answer } of this.connections) {
      const serverError = answer.statuses.find(
        (status) => status >= 500 && ![501, 503, 505].includes(status),
      );
      if (serverError !== undefined) throw new Error(`answered with ${serverError}`);
      if (/^sec-websocket-extensions/im.test(answer.head))
        throw new Error('the server accepted a WebSocket extension');
      if (/^x-injected/im.test(answer.head)) throw new Error('a header was injected');
      if (answer.head.includes(tokenPrefix)) throw new Error('the answer has a token');
    }
  }

  /** Describes the outcome briefly. */
  outcome() {
    const [connection] = this.connections;
    if (connection === undefined) return 'nothing';
    if (this.held.has(connection)) return 'held';
    const { status, closeCode, end } = connection.answer;
    if (closeCode !== null) return `close ${closeCode}`;
    if (status !== null) return `HTTP ${status}`;
    return end === 'open' ? 'silence' : end;
  }

  /** Closes the connections that are not held. */
  end() {
    for (const connection of this.connections) if (!this.held.has(connection)) connection.drop();
  }
}

/** @param {number | null} status */
function isLimited(status) {
  return status === 503 || status === 429;
}
