import type { IncomingMessage } from 'node:http';
import type { Channel, ChannelRequest, User } from './table-authorization.js';
import { askAuthenticate, type Authenticate } from './authenticate.js';
import type { Authorization, ChannelRefusal } from './authorization.js';
import type { HostPolicy } from './host-allowlist.js';
import type { OriginPolicy } from './origin-policy.js';
import { tokenFromRequest } from './request-token.js';
import { TokenError } from './token-error.js';
import type { Identity, TokenVerifier } from './token-verifier.js';
import type { Refusal } from './refusal.js';
import { hasCanonicalPath } from './request-target.js';

/** Who came in. */
export interface Principal {
  readonly user: User;
  /** When the token or the session ends, in milliseconds since the epoch. */
  readonly expiresAtMs: number;
}

export interface RequestAuthorizerOptions {
  /** Checks tokens; null where the host alone knows who somebody is. */
  verifier: TokenVerifier | null;
  /** Asked before the token; null where there are only tokens. */
  authenticate: Authenticate | null;
  authorization: Authorization;
  originPolicy: OriginPolicy;
  hostPolicy: HostPolicy;
  /** Called with each request that has authenticated. */
  onAuthenticated: (request: IncomingMessage) => void;
  /** Whether `?token=` is accepted: it ends up in the logs of everything in between. */
  allowQueryToken: boolean;
  /** Counts the changes of channels that the server has read. */
  channelChanges: () => number;
}

/** Thrown by the authorizer; whoever stands at it turns it into an answer. */
export class RefusedError extends Error {
  override readonly name = 'RefusedError';
  readonly refusal: Refusal;

  constructor(refusal: Refusal) {
    super(refusal.message);
    this.refusal = refusal;
  }
}

/** Decides who may come in and which channel they may see. Every way in (sockets, HTTP) goes through it. */
export class RequestAuthorizer {
  readonly #options: RequestAuthorizerOptions;

  constructor(options: RequestAuthorizerOptions) {
    this.#options = options;
  }

  /** A request for another host or a path of several spellings is refused before anything else. Throws RefusedError. */
  checkTarget(request: IncomingMessage): void {
    if (!hasCanonicalPath(request.url ?? '')) {
      throw refused(
        400,
        'path_not_canonical',
        'The path is not in its canonical form: leave out encoded letters, encoded or repeated slashes and dot segments',
      );
    }
    // RFC 9112, 3.2. The parser takes the first one, and a proxy may have checked another.
    if ((request.headersDistinct['host']?.length ?? 0) > 1) {
      throw refused(400, 'repeated_host', 'The request has several Host headers: send one');
    }
    if (!this.#options.hostPolicy.isAllowed(request)) {
      throw refused(
        421,
        'host_forbidden',
        'This server does not answer to this host: have it added to FLAGCAST_ALLOWED_HOSTS',
      );
    }
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

  /**
   * Who sends the request: as the host says, else by its token. Throws RefusedError, or why the
   * question cannot be answered now.
   */
  async admit(request: IncomingMessage): Promise<Principal> {
    const principal = await this.#authenticate(request);
    this.#options.onAuthenticated(request);
    return principal;
  }

  async #authenticate(request: IncomingMessage): Promise<Principal> {
    const { allowQueryToken, authenticate, verifier } = this.#options;
    if (authenticate !== null) {
      const known = await askAuthenticate(authenticate, request);
      if (known !== null) {
        const { id, username, expiresAtMs } = known;
        return { user: await this.#findUser({ user: { id }, username }), expiresAtMs };
      }
      if (verifier === null) {
        throw refused(401, 'not_signed_in', 'You are not signed in: sign in where this page comes from');
      }
    }
    return await this.admitToken(tokenFromRequest(request, { allowQueryToken })?.token ?? '');
  }

  /** The user of the token. Throws RefusedError, or why the question cannot be answered now. */
  async admitToken(token: string): Promise<Principal> {
    const { verifier } = this.#options;
    if (verifier === null) {
      throw refused(
        501,
        'not_available',
        'This server takes no tokens: the connection lasts until its session ends, connect again then',
      );
    }
    let identity: Identity;
    try {
      identity = await verifier.verify(token);
    } catch (error) {
      if (!(error instanceof TokenError)) throw error;
      if (error.code === 'keys_unavailable') throw refused(503, error.code, error.message, 5);
      throw refused(401, error.code, error.message);
    }
    return { user: await this.#findUser(identity), expiresAtMs: identity.expiresAtMs };
  }

  async #findUser(identity: Pick<Identity, 'user' | 'username'>): Promise<User> {
    const user = await this.#options.authorization.findUser(identity);
    if (user === null) {
      throw refused(
        401,
        'unknown_user',
        'The token or the session is of a user that does not exist: sign in again',
      );
    }
    if (!user.active) {
      throw refused(403, 'user_inactive', 'This user has been deactivated: ask an administrator');
    }
    return user;
  }

  /** The channel, if the principal may see it. Throws RefusedError, or why the question cannot be answered now. */
  async openChannel(principal: Principal, wanted: ChannelRequest): Promise<Channel> {
    const { authorization, channelChanges } = this.#options;
    let changes: number;
    let channel: Channel | ChannelRefusal;
    do {
      // The answer may be older than a change that was read, and carried out, while it was under way.
      changes = channelChanges();
      channel = await authorization.openChannel(principal.user.id, wanted);
    } while (changes !== channelChanges());
    switch (channel) {
      case 'unknown_project':
        throw refused(404, 'unknown_project', 'There is no project with this project_id');
      case 'forbidden':
        throw refused(
          403,
          'forbidden',
          'You may not see this project: ask its owner for the right to view it (project.view)',
        );
      case 'unknown_environment':
        throw refused(404, 'unknown_environment', 'There is no such environment in this project');
      default:
        return channel;
    }
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

/** What goes to a principal when the server itself cannot answer: mostly because its database, or the host, cannot. */
export const unavailable: Refusal = {
  status: 503,
  code: 'unavailable',
  message: 'The server cannot check your rights or read its database right now: try again shortly',
  retryAfterSeconds: 2,
};

/** For newcomers who would have to wait too long behind others. */
export const busy: Refusal = {
  status: 503,
  code: 'busy',
  message: 'Too many connect at the same time: try again shortly',
  retryAfterSeconds: 5,
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
