import type { Identity } from './user-claim.js';
import type { IncomingMessage } from 'node:http';
import { printable } from '../describe.js';
import { HttpProblem } from '../http-problem.js';
import type {
  ApprovalsScope,
  Authorization,
  Channel,
  ChannelRefusal,
  ChannelRequest,
  SubscriptionRequest,
  User,
} from './authorization.js';
import type { BurstThrottle } from '../postgres/query-batcher.js';
import { type Authenticate, callAuthenticate } from './host-callbacks.js';
import type { HostPolicy, OriginPolicy } from './origin-policy.js';
import { hasCanonicalPath } from './request-target.js';
import { tokenFromRequest } from './request-token.js';
import type { TokenVerifier } from './token-verifier.js';

/** An authenticated user. */
export interface Principal {
  readonly user: User;
  /** When the token or the session ends, in milliseconds since the epoch. */
  readonly expiresAtMs: number;
}

/** What a user may subscribe to: a channel, or the approvals feed with the id of the scope that the client knows. */
export type OpenedSubscription =
  | { readonly channel: Channel; readonly request: ChannelRequest }
  | { readonly scope: ApprovalsScope; readonly knownScope: string | null };

export interface RequestAuthorizerOptions {
  /** Null: only the host authenticates. */
  verifier: TokenVerifier | null;
  /** Called before the token is read; null: there are only tokens. */
  authenticate: Authenticate | null;
  authorization: Authorization;
  /** For requests that open connections: groups their lookups. Default: none. */
  throttle?: BurstThrottle;
  originPolicy: OriginPolicy;
  hostPolicy: HostPolicy;
  onAuthenticated: (request: IncomingMessage) => void;
  /** Whether `?token=` is accepted, which proxies write to their logs. */
  allowQueryToken: boolean;
  /** Counts the changes of channels that the server has read. */
  channelChanges: () => number;
  /** Counts the changes of rights that the server has read. */
  rightsChanges: () => number;
}

/** How often a look-up is repeated because rights have changed: a host can change them all the time. */
const maxRightsLookUps = 3;

const channelProblems: Readonly<Record<ChannelRefusal, () => HttpProblem>> = {
  unknown_project: () => new HttpProblem('unknown_project', 'There is no project with this project_id'),
  forbidden: () =>
    new HttpProblem(
      'forbidden',
      'You may not see this project: ask its owner for the right to view it (project.view)',
    ),
  unknown_environment: () =>
    new HttpProblem('unknown_environment', 'There is no such environment in this project'),
};

/**
 * Authenticates requests and opens channels, for WebSockets, event streams and HTTP. Methods throw HttpProblem, or the
 * error of the database or of the host's functions.
 */
export class RequestAuthorizer {
  readonly #options: RequestAuthorizerOptions;

  constructor(options: RequestAuthorizerOptions) {
    this.#options = options;
  }

  /** The first check: the path has one spelling, and the host is this server. */
  checkTarget(request: IncomingMessage): void {
    if (!hasCanonicalPath(request.url ?? '')) {
      throw new HttpProblem(
        'path_not_canonical',
        'The path is not in its canonical form: leave out encoded letters, encoded or repeated slashes and dot segments',
      );
    }
    // RFC 9112, 3.2. Node takes the first one, and a proxy may have checked another.
    if ((request.headersDistinct['host']?.length ?? 0) > 1) {
      throw new HttpProblem('repeated_host', 'The request has several Host headers: send one');
    }
    if (this.#options.hostPolicy.isAllowed(request)) return;
    throw new HttpProblem(
      'host_forbidden',
      'This server does not answer to this host: have it added to FLAGCAST_ALLOWED_HOSTS',
    );
  }

  /** Before the token is read. */
  checkOrigin(request: IncomingMessage): void {
    if (this.#options.originPolicy.isAllowed(request)) return;
    const { origin } = request.headers;
    const page = origin === undefined ? 'another origin' : `the origin ${printable(origin).slice(0, 200)}`;
    throw new HttpProblem(
      'origin_forbidden',
      `Pages of ${page} may not use this server: add it to FLAGCAST_ALLOWED_ORIGINS`,
    );
  }

  /** The user of the host's session, else of the token. */
  async authenticate(request: IncomingMessage): Promise<Principal> {
    const principal =
      (await this.#sessionOf(request)) ??
      (await this.authenticateToken(tokenFromRequest(request, this.#options) ?? ''));
    this.#options.onAuthenticated(request);
    return principal;
  }

  async authenticateToken(token: string): Promise<Principal> {
    const { verifier } = this.#options;
    if (verifier === null) {
      throw new HttpProblem(
        'not_available',
        'This server takes no tokens: the connection lasts until its session ends, connect again then',
      );
    }
    return await this.#principalOf(await verifier.verify(token));
  }

  async openSubscription(principal: Principal, request: SubscriptionRequest): Promise<OpenedSubscription> {
    return 'feed' in request
      ? { scope: await this.openApprovals(principal), knownScope: request.scope }
      : { channel: await this.openChannel(principal, request), request };
  }

  async openChannel(principal: Principal, wanted: ChannelRequest): Promise<Channel> {
    const { authorization } = this.#options;
    const channel = await this.#lookUp(
      async () => await authorization.openChannel(principal.user.id, wanted),
    );
    if (typeof channel === 'string') throw channelProblems[channel]();
    return channel;
  }

  /** What the user's approvals feed contains. */
  async openApprovals({ user }: Principal): Promise<ApprovalsScope> {
    const { authorization } = this.#options;
    const scopes = await this.#lookUp(async () => await authorization.approvalsScopes([user.id]));
    const scope = scopes.get(user.id);
    if (scope === undefined) throw userInactive();
    return scope;
  }

  /**
   * Repeats a look-up whose result may be older than a change of channels or rights that was read meanwhile: what is not
   * subscribed yet is not checked again at that change. If rights change all the time, the next change checks it.
   */
  async #lookUp<Result>(find: () => Promise<Result>): Promise<Result> {
    const { channelChanges, rightsChanges, throttle } = this.#options;
    for (let attempt = 1; ; attempt += 1) {
      await throttle?.turn();
      const [channels, rights] = [channelChanges(), rightsChanges()];
      const result = await find();
      if (channels !== channelChanges()) continue;
      if (rights === rightsChanges() || attempt >= maxRightsLookUps) return result;
    }
  }

  async #sessionOf(request: IncomingMessage): Promise<Principal | null> {
    const { authenticate, verifier } = this.#options;
    const session = authenticate === null ? null : await callAuthenticate(authenticate, request);
    if (session !== null) {
      const { id, username, expiresAtMs } = session;
      return await this.#principalOf({ user: { id }, username, expiresAtMs });
    }
    if (verifier !== null) return null;
    throw new HttpProblem('not_signed_in', 'You are not signed in: sign in where this page comes from');
  }

  async #principalOf(identity: Identity): Promise<Principal> {
    await this.#options.throttle?.turn();
    const user = await this.#options.authorization.findUser(identity);
    if (user === null) {
      throw new HttpProblem(
        'unknown_user',
        'The token or the session is of a user that does not exist: sign in again',
      );
    }
    if (!user.active) throw userInactive();
    return { user, expiresAtMs: identity.expiresAtMs };
  }
}

function userInactive(): HttpProblem {
  return new HttpProblem('user_inactive', 'This user has been deactivated: ask an administrator');
}
