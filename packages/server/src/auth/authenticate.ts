import type { IncomingMessage } from 'node:http';
import { withTimeout } from './with-timeout.js';

/** Somebody whom the host knows, by a cookie, an API key or whatever else it goes by. */
export interface AuthenticatedUser {
  /** As `authorize` is asked for it; with Togglr's tables users.id. */
  readonly id: string;
  readonly username: string;
  /** When this has to be asked again, in milliseconds since the epoch. Default: an hour from now. */
  readonly expiresAtMs?: number;
}

/**
 * The host's own check of who sends a request, in place of a token; null for somebody whom it does
 * not know. It gets the request as it came, before anything of it was read, for handshakes and HTTP alike.
 */
export type Authenticate = (request: IncomingMessage) => Promise<AuthenticatedUser | null>;

const defaultLifetimeMs = 3_600_000;

/**
 * Asks the host who sends a request. Rejects with an Error that says what went wrong where its
 * function fails, takes longer than 5 s, or answers something else than a user or null.
 */
export async function askAuthenticate(
  authenticate: Authenticate,
  request: IncomingMessage,
): Promise<Required<AuthenticatedUser> | null> {
  const answer = await withTimeout('authenticate()', async () => await authenticate(request));
  if (answer === null) return null;
  if (isUser(answer)) {
    const { id, username, expiresAtMs = Date.now() + defaultLifetimeMs } = answer;
    return { id, username, expiresAtMs };
  }
  throw new Error(
    'authenticate() answered neither null nor a user {id, username, expiresAtMs?}: two texts that are not empty, and milliseconds since the epoch',
  );
}

function isUser(answer: unknown): answer is AuthenticatedUser {
  if (typeof answer !== 'object' || answer === null) return false;
  const { id, username, expiresAtMs } = answer as Partial<Record<keyof AuthenticatedUser, unknown>>;
  return (
    typeof id === 'string' &&
    id !== '' &&
    typeof username === 'string' &&
    username !== '' &&
    (expiresAtMs === undefined || isTime(expiresAtMs))
  );
}

/** What the connection is told goes through a Date, which ends in the year 275760. */
function isTime(value: unknown): boolean {
  return typeof value === 'number' && !Number.isNaN(new Date(value).getTime());
}
