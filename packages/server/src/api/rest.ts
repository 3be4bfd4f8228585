import type { HttpBindings } from '@hono/node-server';
import { OpenAPIHono } from '@hono/zod-openapi';
import type { Context, MiddlewareHandler } from 'hono';
import { bodyLimit } from 'hono/body-limit';
import type { Authorization } from '../auth/authorization.js';
import type { ClientAddress } from '../auth/trusted-proxies.js';
import { Decisions } from './writes/decisions.js';
import { Guards } from './writes/guards.js';
import { FeatureWrites } from './writes/feature-writes.js';
import type { DatabaseSessions } from '../postgres/database-sessions.js';
import { isMissing } from '../postgres/errors.js';
import type { SessionSource } from '../postgres/session-pool.js';
import { HttpProblem } from '../http-problem.js';
import type { RequestAuthorizer, Principal } from '../auth/request-authorizer.js';
import type { Guarantee } from '../reader/event-source.js';
import type { Lifecycle } from '../lifecycle.js';
import type { AnswerMemory } from './answer-memory.js';
import { addAuditRoutes } from './audit-routes.js';
import { addAuthRoutes } from './auth-routes.js';
import { addEnvironmentRoutes } from './environment-routes.js';
import { addFeatureRoutes } from './feature-routes.js';
import { addPendingChangeRoutes } from './pending-change-routes.js';
import { answerError, answerProblem, invalidInput, missingTables } from './problem.js';
import type { DemoPerson } from './demo-person.js';
import type { DecisionPassword } from './decision-password.js';
import type { RequestSlots } from './request-slots.js';
import type { SignIn } from '../auth/sign-in.js';

export interface RestOptions {
  authorizer: RequestAuthorizer;
  authorization: Authorization;
  sessions: DatabaseSessions;
  signIn: SignIn;
  decisionPassword: DecisionPassword;
  clientAddress: ClientAddress;
  /** Whether this server takes changes. */
  writes: boolean;
  demoPeople: readonly DemoPerson[];
  /** Names the server process. */
  server: string;
  /** Null while the database has not been read yet. */
  guarantee: () => Guarantee | null;
  lifecycle: Lifecycle;
  requestSlots: RequestSlots;
  answerMemory: AnswerMemory;
}

/** What a handler knows of its request beside the framework's own. */
export interface RestEnv {
  Bindings: HttpBindings;
  Variables: { principal: Principal };
}

export type RestApp = OpenAPIHono<RestEnv>;

/** What the groups of routes are made with. */
export interface RestContext extends RestOptions {
  /** These wait for a session of the database as long as the client of the request is there. */
  reads: (request: Context) => SessionSource;
  features: (request: Context) => FeatureWrites;
  decisions: (request: Context) => Decisions;
  guards: (request: Context) => Guards;
  /** Lets in who has a token; the handler finds `principal`. */
  admit: MiddlewareHandler<RestEnv>;
  /**
   * For reads whose cost grows with the database, after `admit`: bounds how many of them a user has under way, and the
   * memory of their answers.
   */
  bounded: MiddlewareHandler<RestEnv>;
  /** Refuses while this server takes no changes. */
  writable: MiddlewareHandler<RestEnv>;
}

const maxBodyBytes = 65_536;
const tooLarge = (): HttpProblem =>
  new HttpProblem(413, 'body_too_large', 'The body is too large: send at most 64 KiB');

/** The API that the console works with: sign-in, features, approvals, history. */
export function createRestApi(options: RestOptions): RestApp {
  const { authorizer, sessions, writes, requestSlots, answerMemory } = options;
  const app: RestApp = new OpenAPIHono<RestEnv>({
    defaultHook: (result, context) => {
      if (!result.success) return answerProblem(context, invalidInput(result.error));
      return undefined;
    },
  });
  const limitBody = bodyLimit({
    maxSize: maxBodyBytes,
    onError: (context) => answerProblem(context, tooLarge()),
  });
  for (const path of [
    '/api/auth/*',
    '/api/features/*',
    '/api/pending-changes/*',
    '/api/environments/*',
    '/api/audit',
  ]) {
    app.use(path, async (context, next) => {
      authorizer.checkOrigin(context.env.incoming);
      context.header('Cache-Control', 'no-store');
      await next();
    });
    app.use(path, limitBody);
  }
  const context: RestContext = {
    ...options,
    reads: ({ req }) => sessions.requests.until(req.raw.signal),
    features: ({ req }) => new FeatureWrites(sessions.writes.until(req.raw.signal)),
    decisions: ({ req }) => new Decisions(sessions.writes.until(req.raw.signal)),
    guards: ({ req }) => new Guards(sessions.writes.until(req.raw.signal)),
    admit: async (request, next) => {
      request.set('principal', await authorizer.admit(request.env.incoming));
      await next();
    },
    bounded: async (request, next) => {
      const { outgoing } = request.env;
      const userId = request.get('principal').user.id;
      await requestSlots.run(userId, outgoing, async () => {
        await next();
        if (request.res.status !== 200) return;
        const bytes = Buffer.from(await request.res.arrayBuffer());
        const { headers } = request.res;
        headers.set('Content-Length', String(bytes.length));
        request.res = new Response(await answerMemory.body(bytes, userId, outgoing), { headers });
      });
    },
    writable: async (_request, next) => {
      if (!writes) {
        throw new HttpProblem(
          403,
          'writes_off',
          'This server takes no changes: make them where the flags are managed, or have it started with FLAGCAST_WRITES=on',
        );
      }
      await next();
    },
  };
  app.onError((error, request) => {
    // Before it is known who asks, and in a write, it is no read of what the database may not have.
    const isRead =
      request.req.method === 'GET' && (request.get('principal') as Principal | undefined) !== undefined;
    return isRead && isMissing(error)
      ? answerProblem(request, missingTables(error))
      : answerError(request, error, options.lifecycle);
  });
  addAuthRoutes(app, context);
  addFeatureRoutes(app, context);
  addPendingChangeRoutes(app, context);
  addEnvironmentRoutes(app, context);
  addAuditRoutes(app, context);
  return app;
}
