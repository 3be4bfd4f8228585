import { STATUS_CODES } from 'node:http';
import { CloseCode } from '@flagcast/protocol';
import type { Duplex } from 'node:stream';

/** Why somebody was not let in, in HTTP's words. The body is `{"code":..., "message":...}`. */
export interface Refusal {
  readonly status: 400 | 401 | 403 | 404 | 405 | 421 | 426 | 429 | 501 | 503;
  /** A stable word for programs. */
  readonly code: string;
  /** One line for people: what is wrong and how to mend it. Never holds a token. */
  readonly message: string;
  /** When trying again makes sense, in seconds. */
  readonly retryAfterSeconds?: number;
}

/** The headers that go with a refusal, beside those of its body. */
export function refusalHeaders(refusal: Refusal): Record<string, string> {
  return {
    ...(refusal.status === 401 ? { 'WWW-Authenticate': 'Bearer' } : {}),
    // RFC 9110, 15.5.22 and RFC 6455, 4.4: what would have been accepted.
    ...(refusal.status === 426 ? { Upgrade: 'websocket' } : {}),
    ...(refusal.code === 'bad_handshake' ? { 'Sec-WebSocket-Version': '13' } : {}),
    ...(refusal.retryAfterSeconds === undefined ? {} : { 'Retry-After': String(refusal.retryAfterSeconds) }),
    'Cache-Control': 'no-store',
  };
}

/** The close code that says the same to a peer that has been let in already. */
export function closeCodeOf({ status, code }: Refusal): CloseCode {
  switch (status) {
    case 401:
      return code === 'token_expired' ? CloseCode.tokenExpired : CloseCode.badToken;
    case 403:
      return CloseCode.forbidden;
    case 404:
      return CloseCode.unknownChannel;
    case 429:
      return CloseCode.tooMany;
    case 503:
      return code === 'draining' ? CloseCode.draining : CloseCode.unavailable;
    case 400:
    case 405:
    case 421:
    case 426:
    case 501:
      return CloseCode.badRequest;
  }
}

/** Answers an upgrade request with an HTTP error and ends the socket. */
export function refuseUpgrade(socket: Duplex, refusal: Refusal): void {
  const body = JSON.stringify({ code: refusal.code, message: refusal.message });
  const headers: Record<string, string> = {
    ...refusalHeaders(refusal),
    'Content-Type': 'application/json; charset=utf-8',
    'Content-Length': String(Buffer.byteLength(body)),
    Connection: 'close',
  };
  const head = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
  socket.end(
    `HTTP/1.1 ${refusal.status} ${STATUS_CODES[refusal.status] ?? ''}\r\n${head.join('')}\r\n${body}`,
    // A peer that keeps its half open does not keep the socket.
    () => socket.destroy(),
  );
}
