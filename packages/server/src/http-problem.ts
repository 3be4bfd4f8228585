import { STATUS_CODES } from 'node:http';
import type { Duplex } from 'node:stream';
import { CloseCode, type RequestErrorCode, requestErrors } from '@flagcast/protocol';

export type ProblemStatus = (typeof requestErrors)[RequestErrorCode]['status'];

interface ProblemOptions extends ErrorOptions {
  /** When to try again, in seconds. Default with 503: 1. */
  readonly retryAfterSeconds?: number;
  /** Further members of the body, such as the current state. */
  readonly details?: Readonly<Record<string, unknown>>;
}

/**
 * Why a request is refused: an HTTP response with the body `{code, message, ...details}`, or a close code. `code` is
 * stable. `message` is one line: what is wrong and how to fix it; it never holds a token.
 */
export class HttpProblem extends Error {
  override readonly name = 'HttpProblem';
  readonly status: ProblemStatus;
  readonly code: RequestErrorCode;
  readonly details: Readonly<Record<string, unknown>>;
  readonly retryAfterSeconds: number | null;

  constructor(code: RequestErrorCode, message: string, options: ProblemOptions = {}) {
    super(message, options);
    const { status } = requestErrors[code];
    this.status = status;
    this.code = code;
    this.details = options.details ?? {};
    this.retryAfterSeconds = options.retryAfterSeconds ?? (status === 503 ? 1 : null);
  }

  /** The headers of the response, without those that describe its body. */
  get headers(): Record<string, string> {
    const { status, code, retryAfterSeconds } = this;
    return {
      ...(status === 401 ? { 'WWW-Authenticate': 'Bearer' } : {}),
      // RFC 9110, 15.5.22 and RFC 6455, 4.4: what the server accepts.
      ...(status === 426 ? { Upgrade: 'websocket' } : {}),
      ...(code === 'bad_handshake' ? { 'Sec-WebSocket-Version': '13' } : {}),
      ...(retryAfterSeconds === null ? {} : { 'Retry-After': String(retryAfterSeconds) }),
      'Cache-Control': 'no-store',
    };
  }

  /** The equivalent for a connection that is already open. */
  get closeCode(): CloseCode {
    switch (this.status) {
      case 401:
        return this.code === 'token_expired' ? CloseCode.tokenExpired : CloseCode.badToken;
      case 403:
        return CloseCode.forbidden;
      case 404:
        return CloseCode.unknownChannel;
      case 429:
        return CloseCode.tooMany;
      case 503:
      case 504:
        return this.code === 'draining' ? CloseCode.draining : CloseCode.unavailable;
      case 400:
      case 405:
      case 409:
      case 413:
      case 415:
      case 421:
      case 426:
      case 501:
        return CloseCode.badRequest;
    }
  }
}

/** Answers an upgrade request with an HTTP error and ends the socket. */
export function refuseUpgrade(socket: Duplex, problem: HttpProblem): void {
  const body = JSON.stringify({ code: problem.code, message: problem.message });
  const headers = Object.entries({
    ...problem.headers,
    'Content-Type': 'application/json; charset=utf-8',
    'Content-Length': String(Buffer.byteLength(body)),
    Connection: 'close',
  }).map(([name, value]) => `${name}: ${value}\r\n`);
  socket.end(
    `HTTP/1.1 ${problem.status} ${STATUS_CODES[problem.status] ?? ''}\r\n${headers.join('')}\r\n${body}`,
    // A client that keeps its half of the connection open does not keep the socket.
    () => socket.destroy(),
  );
}

/** For new connections while the server drains. */
export function draining(): HttpProblem {
  return new HttpProblem('draining', 'The server is shutting down: connect again shortly');
}

/** The database, or a function of the host, does not answer. */
export function unavailable(): HttpProblem {
  const message = 'The server cannot check your rights or read its database right now: try again shortly';
  return new HttpProblem('unavailable', message, { retryAfterSeconds: 2 });
}

/** For new connections that would wait too long behind others. */
export function busy(): HttpProblem {
  const message = 'Too many clients connect at the same time: try again shortly';
  return new HttpProblem('busy', message, { retryAfterSeconds: 5 });
}

/** A limit of connections is reached. */
export function tooMany(limit: 'too_many_user' | 'too_many_address'): HttpProblem {
  const message =
    limit === 'too_many_user'
      ? 'This user has too many connections open: close some, or raise FLAGCAST_MAX_CONNECTIONS_PER_USER'
      : 'This address has too many connections open: close some, or raise FLAGCAST_MAX_CONNECTIONS_PER_ADDRESS';
  return new HttpProblem(limit, message, { retryAfterSeconds: 5 });
}
