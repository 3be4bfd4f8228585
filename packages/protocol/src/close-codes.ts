import type { ErrorCode } from './messages.js';
import type { RequestErrorCode } from './request-errors.js';

/**
 * The close codes of the server. The range tells the client what to do: 4000-4499 reconnect with backoff, 4500-4999 do
 * not reconnect. From 4500 on, the code is 4100 plus the HTTP status of the same refusal before the upgrade (4501 = 401).
 */
export const CloseCode = {
  /** The server is shutting down or restarting. Another server, or the next process, will accept the connection. */
  draining: 4000,
  /** The token has expired. Reconnect with a new one. */
  tokenExpired: 4001,
  /** The client read too slowly for too long. */
  slow: 4002,
  /** The user or the address has too many open connections. */
  tooMany: 4003,
  /** The client did not respond to pings. */
  unresponsive: 4004,
  /** The server cannot check the token or the permissions, or, for plain clients, has been stale for a minute. */
  unavailable: 4005,
  /** For plain clients: events may be missing (restore, failover, triggers). Load the state again. */
  historyLost: 4006,
  /** A parameter is missing or malformed. */
  badRequest: 4500,
  /** The token is missing, invalid or of the wrong kind, or its user does not exist. */
  badToken: 4501,
  /** The user is not, or is no longer, allowed to view this channel. */
  forbidden: 4503,
  /** The project or environment does not exist, or was deleted or archived. */
  unknownChannel: 4504,
  /** The client violated the protocol. */
  protocolViolation: 4505,
} as const;

export type CloseCode = (typeof CloseCode)[keyof typeof CloseCode];

/**
 * The reasons of close frames, besides the codes of refused requests and of `error` messages. Stable, like the codes of the
 * close frames; a code can have several reasons.
 */
export const closeReasons = {
  slow: 'The client did not read for too long, or fell too far behind.',
  unresponsive: 'The client did not answer a ping.',
  history_lost: 'Events may be missing, because the database has lost transactions or triggers were changed.',
  other_user: 'The new token is of another user than the connection.',
  too_many_messages: 'The client has sent more than 100 messages or pings in 10 seconds.',
} as const;

/** Why the server has closed a connection. */
export type CloseReason = keyof typeof closeReasons | RequestErrorCode | ErrorCode;

/** Whether a client should reconnect after it was closed with `code`. */
export function isReconnectCode(code: number): boolean {
  return code < 4500 || code > 4999;
}
