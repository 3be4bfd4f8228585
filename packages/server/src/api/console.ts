import type { HttpBindings } from '@hono/node-server';
import type { OpenAPIHono } from '@hono/zod-openapi';
import type { Authorization } from '../auth/authorization.js';
import type { RequestAuthorizer } from '../auth/request-authorizer.js';
import type { TokenSigner } from '../auth/sign-token.js';
import type { ClientAddress } from '../auth/trusted-proxies.js';
import { HttpProblem } from '../http-problem.js';
import type { Lifecycle } from '../lifecycle.js';
import type { DatabaseSessions } from '../postgres/database-sessions.js';
import type { Guarantee } from '../reader/event-source.js';
import type { RequestSlots, ResponseMemory } from './request-limits.js';

/** Creates the console of a server: its pages and their REST API. The public option has the type `CreateConsole`. */
export type ConsoleFactory = (context: ConsoleContext) => OpenAPIHono<ConsoleEnv>;

interface ConsoleEnv {
  Bindings: HttpBindings;
}

/** The parts of a server that its console uses. */
export interface ConsoleContext {
  readonly authorizer: RequestAuthorizer;
  readonly authorization: Authorization;
  readonly sessions: DatabaseSessions;
  /** Signs the tokens of users who sign in with a password; null if tokens or users come from elsewhere. */
  readonly tokens: TokenSigner | null;
  readonly clientAddress: ClientAddress;
  /** Whether this server accepts changes. */
  readonly writes: boolean;
  /** Identifies the server process. */
  readonly server: string;
  /** Null before the first read of the database. */
  readonly guarantee: () => Guarantee | null;
  readonly lifecycle: Lifecycle;
  readonly requestSlots: RequestSlots;
  readonly responseMemory: ResponseMemory;
}

const consolePath =
  /^\/(?:$|approvals(?:\/|$)|p\/|api\/(?:auth|features|pending-changes|environments|audit)(?:\/|$))/;

/** For a path that this server does not serve. `hasConsole` says whether it has the console. */
export function nothingAt(path: string, hasConsole: boolean): HttpProblem {
  return new HttpProblem(
    'not_found',
    hasConsole || !consolePath.test(path)
      ? `There is nothing at ${path}`
      : `There is nothing at ${path}: the console is not installed. Run npm install @flagcast/console and start the server again; a program of yours gives createFlagcast the option console`,
  );
}
