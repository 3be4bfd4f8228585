import type { IncomingMessage } from 'node:http';
import type { Access, Channel, ChannelRequest, User } from '../access/access.js';
import type { OriginPolicy } from '../access/origin.js';
import { tokenFromRequest } from '../access/request-token.js';
import { type Identity, TokenError, type TokenVerifier } from '../access/token.js';
import type { Refusal } from './refusal.js';

/** Who came in. */
export interface Visitor {
  readonly user: User;
  /** When the token ends, in milliseconds since the epoch. */
  readonly expiresAtMs: number;
}

export interface DoorOptions {
  verifier: TokenVerifier;
  access: Access;
  originPolicy: OriginPolicy;
  /** Whether `?token=` is accepted: it ends up in the logs of everything in between. */
  allowQueryToken: boolean;
}

/** Thrown by the door; whoever stands at it turns it into an answer. */
export class RefusedError extends Error {
  override readonly name = 'RefusedError';
  readonly refusal: Refusal;

  constructor(refusal: Refusal) {
    super(refusal.message);
    this.refusal = refusal;
  }
}

/** Decides who may come in and which channel they may see. Every way in (sockets, HTTP) goes through it. */
export class Door {
  readonly #options: DoorOptions;

  constructor(options: DoorOptions) {
    this.#options = options;
  }

  /** A page of a foreign origin is refused before its token is looked at. Throws RefusedError. */
  checkOrigin(request: IncomingMessage): void {
    if (this.#options.originPolicy.isAllowed(request)) return;
    throw refused(
      403,
      'origin_forbidden',
      'This origin is not allowed: have it added to FLAGCAST_ALLOWED_ORIGINS',
    );
  }

  /** The user of the request's token. Throws RefusedError, or what the database throws. */
  async admit(request: IncomingMessage): Promise<Visitor> {
    const { allowQueryToken } = this.#options;
    return await this.admitToken(tokenFromRequest(request, { allowQueryToken })?.token ?? '');
  }

  /** The user of the token. Throws RefusedError, or what the database throws. */
  async admitToken(token: string): Promise<Visitor> {
    const { verifier, access } = this.#options;
    let identity: Identity;
    try {
      identity = await verifier.verify(token);
    } catch (error) {
      if (!(error instanceof TokenError)) throw error;
      if (error.code === 'keys_unavailable') throw refused(503, error.code, error.message, 5);
      throw refused(401, error.code, error.message);
    }
    const user = await access.findUser(identity);
    if (user === null) {
      throw refused(401, 'unknown_user', 'The token names a user that does not exist: sign in again');
    }
    if (!user.active) {
      throw refused(403, 'user_inactive', 'This user has been deactivated: ask an administrator');
    }
    return { user, expiresAtMs: identity.expiresAtMs };
  }

  /** The channel, if the visitor may see it. Throws RefusedError, or what the database throws. */
  async openChannel(visitor: Visitor, wanted: ChannelRequest): Promise<Channel> {
    const { access } = this.#options;
    const channel = await access.resolveChannel(wanted);
    if (channel === 'unknown_project') {
      throw refused(404, 'unknown_project', 'There is no project with this project_id');
    }
    if (!(await access.mayView(visitor.user.id, wanted.projectId))) {
      throw refused(
        403,
        'forbidden',
        'You may not see this project: ask its owner for a role with project.view',
      );
    }
    if (channel === 'unknown_environment') {
      throw refused(404, 'unknown_environment', 'There is no such environment in this project');
    }
    return channel;
  }
}

export function refused(
  status: Refusal['status'],
  code: string,
  message: string,
  retryAfterSeconds?: number,
): RefusedError {
  return new RefusedError({
    status,
    code,
    message,
    ...(retryAfterSeconds === undefined ? {} : { retryAfterSeconds }),
  });
}

/** For newcomers while the server drains. */
export function draining(): RefusedError {
  return refused(503, 'draining', 'The server is shutting down: connect again shortly', 1);
}

const tooManyMessages = {
  too_many_user:
    'This user has too many connections open: close some, or raise FLAGCAST_MAX_CONNECTIONS_PER_USER',
  too_many_address:
    'This address has too many connections open: close some, or raise FLAGCAST_MAX_CONNECTIONS_PER_ADDRESS',
} as const;

/** For whom the limits leave no place. */
export function tooMany(limit: keyof typeof tooManyMessages): RefusedError {
  return refused(429, limit, tooManyMessages[limit], 5);
}

/** What goes to a visitor when the server itself cannot answer, mostly because its database cannot. */
export const unavailable: Refusal = {
  status: 503,
  code: 'unavailable',
  message:
    'The server cannot check your rights right now, because its database does not answer: try again shortly',
  retryAfterSeconds: 2,
};

/** The value of a parameter, or null where it is not given. Throws RefusedError. */
function single(query: URLSearchParams, name: string): string | null {
  const values = query.getAll(name);
  if (values.length > 1)
    throw refused(400, 'repeated_parameter', `The parameter ${name} is given more than once`);
  return values[0] ?? null;
}

/** Whether a query string is about a channel at all. */
export function asksForChannel(query: URLSearchParams): boolean {
  return ['project_id', 'env', 'env_id', 'environment_id', 'cursor'].some((name) => query.has(name));
}

/** Where a query string asks its channel to go on; null where it does not say. Throws RefusedError. */
export function cursorFromQuery(query: URLSearchParams): string | null {
  return single(query, 'cursor');
}

/** The channel that a query string asks for: `project_id` and one of `env`, `env_id`, `environment_id`. Throws RefusedError. */
export function channelFromQuery(query: URLSearchParams): ChannelRequest {
  const projectId = single(query, 'project_id');
  if (projectId === null || projectId === '') {
    throw refused(
      400,
      'missing_parameter',
      'The parameter project_id is missing: the id of the project to watch',
    );
  }
  const environmentKey = single(query, 'env');
  const byNumber = [single(query, 'env_id'), single(query, 'environment_id')].filter(
    (value) => value !== null,
  );
  const environmentId = byNumber[0];
  if (byNumber.length + (environmentKey === null ? 0 : 1) > 1) {
    throw refused(400, 'conflicting_parameters', 'Give one of env, env_id and environment_id, not several');
  }
  if (environmentKey !== null && environmentKey !== '') return { projectId, environmentKey };
  if (environmentId !== undefined && environmentId !== '') return { projectId, environmentId };
  throw refused(
    400,
    'missing_parameter',
    'The parameter env is missing: the key of the environment to watch, e.g. env=prod (or env_id=<number>)',
  );
}
