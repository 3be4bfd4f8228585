import type { IncomingMessage } from 'node:http';
import type { Channel, ChannelRequest, User } from './table-authorization.js';
import { askAuthenticate, type Authenticate } from './authenticate.js';
import type { Authorization, ChannelRefusal } from './authorization.js';
import type { HostPolicy } from './host-allowlist.js';
import type { OriginPolicy } from './origin-policy.js';
import { tokenFromRequest } from './request-token.js';
import { TokenError } from './token-error.js';
import type { Identity, TokenVerifier } from './token-verifier.js';
import { HttpProblem } from '../http-problem.js';
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

/** Decides who may come in and which channel they may see. Every way in (sockets, HTTP) goes through it. */
export class RequestAuthorizer {
  readonly #options: RequestAuthorizerOptions;

  constructor(options: RequestAuthorizerOptions) {
    this.#options = options;
  }

  /** A request for another host or a path of several spellings is refused before anything else. Throws HttpProblem. */
  checkTarget(request: IncomingMessage): void {
    if (!hasCanonicalPath(request.url ?? '')) {
      throw new HttpProblem(
        400,
        'path_not_canonical',
        'The path is not in its canonical form: leave out encoded letters, encoded or repeated slashes and dot segments',
      );
    }
    // RFC 9112, 3.2. The parser takes the first one, and a proxy may have checked another.
    if ((request.headersDistinct['host']?.length ?? 0) > 1) {
      throw new HttpProblem(400, 'repeated_host', 'The request has several Host headers: send one');
    }
    if (!this.#options.hostPolicy.isAllowed(request)) {
      throw new HttpProblem(
        421,
        'host_forbidden',
        'This server does not answer to this host: have it added to FLAGCAST_ALLOWED_HOSTS',
      );
    }
  }

  /** A page of a foreign origin is refused before its token is looked at. Throws HttpProblem. */
  checkOrigin(request: IncomingMessage): void {
    if (this.#options.originPolicy.isAllowed(request)) return;
    throw new HttpProblem(
      403,
      'origin_forbidden',
      'This origin is not allowed: have it added to FLAGCAST_ALLOWED_ORIGINS',
    );
  }

  /**
   * Who sends the request: as the host says, else by its token. Throws HttpProblem, or why the
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
        throw new HttpProblem(
          401,
          'not_signed_in',
          'You are not signed in: sign in where this page comes from',
        );
      }
    }
    return await this.admitToken(tokenFromRequest(request, { allowQueryToken })?.token ?? '');
  }

  /** The user of the token. Throws HttpProblem, or why the question cannot be answered now. */
  async admitToken(token: string): Promise<Principal> {
    const { verifier } = this.#options;
    if (verifier === null) {
      throw new HttpProblem(
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
      if (error.code === 'keys_unavailable')
        throw new HttpProblem(503, error.code, error.message, { retryAfterSeconds: 5 });
      throw new HttpProblem(401, error.code, error.message);
    }
    return { user: await this.#findUser(identity), expiresAtMs: identity.expiresAtMs };
  }

  async #findUser(identity: Pick<Identity, 'user' | 'username'>): Promise<User> {
    const user = await this.#options.authorization.findUser(identity);
    if (user === null) {
      throw new HttpProblem(
        401,
        'unknown_user',
        'The token or the session is of a user that does not exist: sign in again',
      );
    }
    if (!user.active) {
      throw new HttpProblem(403, 'user_inactive', 'This user has been deactivated: ask an administrator');
    }
    return user;
  }

  /** The channel, if the principal may see it. Throws HttpProblem, or why the question cannot be answered now. */
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
        throw new HttpProblem(404, 'unknown_project', 'There is no project with this project_id');
      case 'forbidden':
        throw new HttpProblem(
          403,
          'forbidden',
          'You may not see this project: ask its owner for the right to view it (project.view)',
        );
      case 'unknown_environment':
        throw new HttpProblem(404, 'unknown_environment', 'There is no such environment in this project');
      default:
        return channel;
    }
  }
}
