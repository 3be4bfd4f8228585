import type { SeededRandom } from '../../testkit/random.ts';
import { type RawAnswer, RawConnection } from '../../testkit/clients/raw-connection.ts';
import { type Handshake, handshakeText, type Target } from './requests.ts';

export interface Attack {
  /** Its kind and what it does. */
  readonly name: string;
  /** Throws if the server violates the protocol. */
  readonly run: (attempt: Attempt) => Promise<void>;
}

/** `either`: of one of the two. */
export type Dialect = 'plain' | 'v1' | 'either';

/** Time limit for a required answer, in milliseconds. */
const answerLimitMs = 15_000;
/** Time to wait for an optional answer, in milliseconds. */
const optionalAnswerMs = 100;
const addresses = 50;
/** Prefix of every JWT, long enough not to occur in a Sec-WebSocket-Accept by chance. */
const tokenPrefix = Buffer.from('{"alg":').toString('base64url').slice(0, -1);

/** An attack in progress, with its connections. */
export class Attempt {
  readonly random: SeededRandom;
  readonly target: Target;
  readonly connections: RawConnection[] = [];
  /** The connections that stay open, of all attempts, and what is written to them byte by byte. */
  readonly #held: Map<RawConnection, Buffer>;

  constructor(random: SeededRandom, target: Target, held: Map<RawConnection, Buffer>) {
    this.random = random;
    this.target = target;
    this.#held = held;
  }

  /** Opens a connection and writes the bytes. */
  open(...written: readonly (Buffer | string)[]): RawConnection {
    // The control clients use 127.0.0.1; other addresses keep the limits per address apart.
    const connection = new RawConnection(this.target.port, `127.0.0.${2 + this.random.below(addresses)}`);
    this.connections.push(connection);
    for (const bytes of written) connection.write(bytes);
    return connection;
  }

  handshake(handshake?: Handshake): string {
    return handshakeText(this.random, this.target, handshake);
  }

  /** Keeps the connection open for long, and writes `drip` to it byte by byte. */
  hold(connection: RawConnection, drip: Buffer = Buffer.of()): void {
    this.#held.set(connection, drip);
  }

  /** Opens a WebSocket, and waits for `hello` in flagcast.v1; null if the server is at a limit. */
  async openSocket(dialect: Dialect): Promise<RawConnection | null> {
    const isV1 = dialect === 'v1' || (dialect === 'either' && this.random.oneIn(2));
    const protocols = `flagcast.v1, bearer.${this.random.pick(this.target.tokens)}`;
    const headers = { Authorization: null, 'Sec-WebSocket-Protocol': protocols };
    const connection = this.open(this.handshake(isV1 ? { headers } : {}));
    await this.expectStatus(connection, [101]);
    if (connection.answer.status !== 101) return null;
    if (!isV1) return connection;
    await this.expect(connection, ({ texts, closeCode }) => texts.length > 0 || closeCode !== null, 'hello');
    return connection.answer.closeCode === null ? connection : null;
  }

  /** Waits until the server has given the answer. Throws if it does not in time. */
  async expect(
    connection: RawConnection,
    isThere: (answer: RawAnswer) => boolean,
    expected: string,
  ): Promise<void> {
    await connection.until((answer) => isThere(answer) || answer.end !== 'open', answerLimitMs);
    const { answer } = connection;
    if (isThere(answer)) return;
    const within = answer.end === 'open' ? `no answer within ${answerLimitMs / 1_000} s` : answer.end;
    throw new Error(`${within}, expected ${expected}`);
  }

  /** The server must answer with one of the statuses; a status for a limit is always allowed. */
  async expectStatus(connection: RawConnection, statuses: readonly number[]): Promise<void> {
    await this.expect(connection, ({ status }) => status !== null, `HTTP ${statuses.join(' or ')}`);
    const { status, head } = connection.answer;
    if (isLimited(status) || (status !== null && statuses.includes(status))) return;
    throw new Error(`answered with ${head.split('\r\n', 1)[0] ?? ''}, expected ${statuses.join(' or ')}`);
  }

  /** The server must close the WebSocket with one of the codes. */
  async expectClose(connection: RawConnection, codes: readonly number[]): Promise<void> {
    await this.expect(connection, ({ closeCode }) => closeCode !== null, `close ${codes.join(' or ')}`);
    const { closeCode } = connection.answer;
    if (closeCode !== null && codes.includes(closeCode)) return;
    throw new Error(`closed with ${closeCode ?? 'nothing'}, expected ${codes.join(' or ')}`);
  }

  /** The server must send a text that contains this one. */
  async expectText(connection: RawConnection, part: string): Promise<void> {
    const isThere = ({ texts }: RawAnswer): boolean => texts.some((text) => text.includes(part));
    await this.expect(connection, isThere, part);
  }

  /** Waits briefly: the server may answer or not, because the input may be incomplete. */
  async waitBriefly(connection: RawConnection): Promise<void> {
    const isAnswer = ({ status, closeCode, end }: RawAnswer): boolean =>
      end !== 'open' || closeCode !== null || (status !== null && status !== 101);
    await connection.until(isAnswer, optionalAnswerMs);
  }

  /** Throws if an answer has something that no answer may have. */
  check(): void {
    for (const { answer } of this.connections) {
      const failed = answer.statuses.find((status) => status >= 500 && ![501, 503, 505].includes(status));
      if (failed !== undefined) throw new Error(`answered with ${failed}`);
      if (/^sec-websocket-extensions/im.test(answer.head)) throw new Error('an extension was accepted');
      if (/^x-injected/im.test(answer.head)) throw new Error('a header was injected');
      if (answer.head.includes(tokenPrefix)) throw new Error('the answer has a token');
    }
  }

  /** Describes the outcome briefly. */
  outcome(): string {
    const [connection] = this.connections;
    if (connection === undefined) return 'nothing';
    if (this.#held.has(connection)) return 'held';
    const { status, closeCode, end } = connection.answer;
    if (closeCode !== null) return `close ${closeCode}`;
    if (status !== null) return `HTTP ${status}`;
    return end === 'open' ? 'silence' : end;
  }

  /** Closes the connections that are not held. */
  end(): void {
    for (const connection of this.connections) if (!this.#held.has(connection)) connection.drop();
  }
}

function isLimited(status: number | null): boolean {
  return status === 503 || status === 429;
}
