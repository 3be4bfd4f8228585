import type { IncomingMessage } from 'node:http';
import { z } from 'zod';
import { describeError } from '../describe.js';
import { within } from '../retry.js';

/** A user whom the host knows by a cookie, an API key or other credentials. */
export interface AuthenticatedUser {
  /** As `authorize` gets it; with Togglr's tables users.id. */
  readonly id: string;
  readonly username: string;
  /** When to authenticate again, in milliseconds since the epoch. Default: in an hour. */
  readonly expiresAtMs?: number;
}

/**
 * The host's own check of who sends a request, instead of a token; null for an unknown user. It gets the request
 * unread, for handshakes and HTTP requests.
 */
export type Authenticate = (request: IncomingMessage) => Promise<AuthenticatedUser | null>;

/** A channel that a user may see. All ids are opaque texts: uuid, number, slug. */
export interface AuthorizedChannel {
  /** As the user's token names it, or `authenticate`. */
  readonly userId: string;
  /** As the view has it, in its text form. */
  readonly projectId: string;
  /** As the view has it, in its text form. */
  readonly environmentId: string;
  /** The value of clients' `env`, e.g. `prod`. */
  readonly environmentKey: string;
  /** Default: the id. */
  readonly projectName?: string | null;
  /** Default: the key. */
  readonly environmentName?: string | null;
}

/** All channels that these users may see now. */
export type Authorize = (userIds: readonly string[]) => Promise<readonly AuthorizedChannel[]>;

const timeoutMs = 5_000;
const defaultLifetimeMs = 3_600_000;
/** What a Date can hold, in milliseconds. */
const lastTimeMs = 8.64e15;

const text = z.string().min(1);
const name = text.nullable().catch(null).default(null);
const userSchema = z.object({
  id: text,
  username: text,
  expiresAtMs: z
    .number()
    .min(-lastTimeMs)
    .max(lastTimeMs)
    .default(() => Date.now() + defaultLifetimeMs),
});
export const channelSchema = z.object({
  userId: text,
  projectId: text,
  environmentId: text,
  environmentKey: text,
  projectName: name,
  environmentName: name,
});

/** The result of a function of the host. Rejects with an Error that begins with `name` if it fails or takes longer than 5 s. */
export async function withTimeout(name: string, call: () => Promise<unknown>): Promise<unknown> {
  try {
    return await within(timeoutMs, Promise.resolve().then(call));
  } catch (error) {
    throw new Error(`${name} failed: ${describeError(error)}`, { cause: error });
  }
}

/** Calls `authenticate`. Rejects with an Error that says what is wrong if it fails, is late, or returns something else. */
export async function callAuthenticate(
  authenticate: Authenticate,
  request: IncomingMessage,
): Promise<Required<AuthenticatedUser> | null> {
  const result = await withTimeout('authenticate()', async () => await authenticate(request));
  if (result === null) return null;
  const { data } = userSchema.safeParse(result);
  if (data !== undefined) return data;
  throw new Error(
    'authenticate() returned neither null nor a user: return {id, username, expiresAtMs?} with two texts that are not empty, and milliseconds since the epoch',
  );
}
