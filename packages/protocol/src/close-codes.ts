/**
 * Why the server closed a WebSocket. The range says what a client must do:
 * 4000-4499 reconnect (with backoff), 4500-4999 give up. The second half mirrors
 * the HTTP status that the same refusal has before the upgrade (4501 = 401 ...).
 */
export const CloseCode = {
  /** The server is shutting down or restarting; another one, or the next, will answer. */
  draining: 4000,
  /** The token's lifetime ended; reconnect with a fresh one. */
  tokenExpired: 4001,
  /** The peer did not read what it was sent for too long. */
  slow: 4002,
  /** The user or the address has too many connections open. */
  tooMany: 4003,
  /** The peer did not answer the server's pings. */
  unresponsive: 4004,
  /** The server cannot check the token or the rights right now. */
  unavailable: 4005,
  /** The database has lost transactions (restored, or failed over): come back and fetch the state anew. */
  historyLost: 4006,
  /** A parameter is missing or malformed. */
  badRequest: 4500,
  /** The token is missing, forged, of the wrong kind, or its user does not exist. */
  badToken: 4501,
  /** The user may not, or may no longer, see this channel. */
  forbidden: 4503,
  /** There is no such project, or no such environment in it. */
  unknownChannel: 4504,
  /** The peer broke the protocol. */
  protocolViolation: 4505,
} as const;

export type CloseCode = (typeof CloseCode)[keyof typeof CloseCode];

/** Whether a client that was closed with `code` should connect again. */
export function isReconnectCode(code: number): boolean {
  return code < 4500 || code > 4999;
}
