import type { HttpBindings } from '@hono/node-server';
import type { DemoUser } from 'flagcast';
import {
  type Channel,
  channelFromQuery,
  type ConsoleContext,
  HttpProblem,
  invalidInput,
  isMissing,
  limitBody,
  OpenAPIHono,
  type Principal,
  sendError,
  sendProblem,
  type SessionSource,
} from 'flagcast/support';
import type { Context, MiddlewareHandler } from 'hono';
import { addAuditRoutes } from './audit-routes.js';
import { addAuthRoutes } from './auth-routes.js';
import { addEnvironmentRoutes } from './environment-routes.js';
import { addFeatureRoutes } from './feature-routes.js';
import { addPendingChangeRoutes } from './pending-change-routes.js';
import { missingTables } from './problems.js';
import { bearerSecurity } from './schemas.js';
import type { SignIn } from './sign-in.js';
import type { DecisionPassword } from './writes/decisions.js';

export interface RestOptions extends ConsoleContext {
  readonly signIn: SignIn;
  readonly decisionPassword: DecisionPassword;
  readonly demoUsers: readonly DemoUser[];
}

export interface RestEnv {
  Bindings: HttpBindings;
  Variables: { principal: Principal };
}

export type RestApp = OpenAPIHono<RestEnv>;

type Middleware = MiddlewareHandler<RestEnv>;

/** Part of the definition of a route: who may call it. */
interface RouteAccess {
  readonly security: { bearer: string[] }[];
  readonly middleware: Middleware[];
}

/** What the groups of routes are created with. */
export interface RestContext extends RestOptions {
  /** Sessions for the reads and writes of a request. Waits for a free session until the client disconnects. */
  reads: (request: Context) => SessionSource;
  writeSessions: (request: Context) => SessionSource;
  /** The channel that the query string asks for. Throws HttpProblem if the user may not see it. */
  openChannel: (request: Context<RestEnv>) => Promise<Channel>;
  /** For users with a token. Handlers get the `principal`. */
  signedIn: RouteAccess;
  /** Also limits the requests of a user at the same time, and the memory of their responses. */
  boundedRead: RouteAccess;
  /** Also requires a server that accepts changes. */
  write: RouteAccess;
}

/** The API of the console: sign-in, features, approvals, history. */
export function createRestApi(options: RestOptions): RestApp {
  const { authorizer, sessions } = options;
  const app: RestApp = new OpenAPIHono<RestEnv>({
    defaultHook: (result, context) =>
      result.success ? undefined : sendProblem(context, invalidInput(result.error)),
  });
  for (const resource of ['auth/*', 'features/*', 'pending-changes/*', 'environments/*', 'audit/*']) {
    app.use(`/api/${resource}`, async (context, next) => {
      authorizer.checkOrigin(context.env.incoming);
      context.header('Cache-Control', 'no-store');
      await next();
    });
    app.use(`/api/${resource}`, limitBody);
  }
  app.onError((error, request) => {
    // Before authentication and in a write, a missing table is an error of the server.
    const isRead =
      request.req.method === 'GET' && (request.get('principal') as Principal | undefined) !== undefined;
    return isRead && isMissing(error)
      ? sendProblem(request, missingTables(error))
      : sendError(request, error, options.lifecycle);
  });
  const context: RestContext = {
    ...options,
    reads: ({ req }) => sessions.requests.until(req.raw.signal),
    writeSessions: ({ req }) => sessions.writes.until(req.raw.signal),
    openChannel: async (request) => {
      const wanted = channelFromQuery(new URL(request.req.url).searchParams);
      return await authorizer.openChannel(request.get('principal'), wanted);
    },
    ...accessOf(options),
  };
  addAuthRoutes(app, context);
  addFeatureRoutes(app, context);
  addPendingChangeRoutes(app, context);
  addEnvironmentRoutes(app, context);
  addAuditRoutes(app, context);
  return app;
}

function accessOf({
  authorizer,
  requestSlots,
  responseMemory,
  writes,
}: RestOptions): Record<'signedIn' | 'boundedRead' | 'write', RouteAccess> {
  const authenticate: Middleware = async (request, next) => {
    request.set('principal', await authorizer.authenticate(request.env.incoming));
    await next();
  };
  const limitReads: Middleware = async (request, next) => {
    const { outgoing } = request.env;
    const userId = request.get('principal').user.id;
    await requestSlots.run(userId, outgoing, async () => {
      await next();
      if (request.res.status !== 200) return;
      const bytes = Buffer.from(await request.res.arrayBuffer());
      const { headers } = request.res;
      headers.set('Content-Length', String(bytes.length));
      request.res = new Response(await responseMemory.body(bytes, userId, outgoing), { headers });
    });
  };
  const requireWrites: Middleware = async (_request, next) => {
    if (!writes) {
      throw new HttpProblem(
        'writes_off',
        'This server is read-only: make the change in the application that manages the flags, or start it with FLAGCAST_WRITES=on',
      );
    }
    await next();
  };
  const access = (...middleware: Middleware[]): RouteAccess => ({
    security: bearerSecurity,
    middleware: [authenticate, ...middleware],
  });
  return { signedIn: access(), boundedRead: access(limitReads), write: access(requireWrites) };
}
