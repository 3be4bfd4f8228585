import type { IncomingMessage } from 'node:http';
import type { HttpBindings } from '@hono/node-server';
import { RESPONSE_ALREADY_SENT } from '@hono/node-server/utils/response';
import { OpenAPIHono } from '@hono/zod-openapi';
import type { Handler, MiddlewareHandler } from 'hono';
import type { Registry } from 'prom-client';
import type { Authorization } from '../auth/authorization.js';
import type { OriginPolicy } from '../auth/origin-policy.js';
import type { Principal, RequestAuthorizer } from '../auth/request-authorizer.js';
import { subscriptionFromQuery } from '../auth/request-target.js';
import type { TokenSigner } from '../auth/sign-token.js';
import type { ClientAddress } from '../auth/trusted-proxies.js';
import { decidableProjects, readGuards } from '../host/rights.js';
import { HttpProblem, unavailable } from '../http-problem.js';
import type { Lifecycle } from '../lifecycle.js';
import type { DatabaseSessions } from '../postgres/database-sessions.js';
import type { Guarantee } from '../reader/event-source.js';
import type { EncodedSnapshot, SnapshotSource } from '../replay/snapshot.js';
import { defaultHeaders } from '../transport/http-server.js';
import type { EventStreams } from '../transport/event-stream.js';
import { acceptsGzip, invalidInput, limitBody, sendError, sendProblem } from './responses.js';
import type { RequestSlots, ResponseMemory } from './request-limits.js';
import { documentHead, subscriptionsBody, systemRoutes } from './system-routes.js';

interface AppEnv {
  Bindings: HttpBindings;
}

type App = OpenAPIHono<AppEnv>;

/** Creates the console of a server: its pages and their REST API. The public option has the type `CreateConsole`. */
export type ConsoleFactory = (context: ConsoleContext) => App;

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

export interface AppOptions extends ConsoleContext {
  originPolicy: OriginPolicy;
  snapshots: SnapshotSource;
  eventStreams: EventStreams;
  metrics: Registry;
  /** Why this server should get no new clients; null if it is ready for them. */
  notReady: () => string | null;
  /** Whether only the monitoring app serves /metrics, /healthz and /readyz. */
  separateMonitoring: boolean;
  createConsole: ConsoleFactory | null;
}

type MonitoringOptions = Pick<AppOptions, 'authorizer' | 'lifecycle' | 'metrics' | 'notReady'>;

/** Responses of the API are for programs: no page may show, frame or embed them. The console's pages have other headers. */
const apiHeaders = Object.entries({
  'Content-Security-Policy': "default-src 'none'; frame-ancestors 'none'",
  ...defaultHeaders,
});

/** Adds a route to the app and to the document. */
function addRoute(
  app: App,
  route: (typeof systemRoutes)[keyof typeof systemRoutes],
  handler: Handler<AppEnv>,
  method: 'get' | 'post' = 'get',
): void {
  app.openAPIRegistry.registerPath({ method, ...route });
  app[method](route.path, handler);
}

const consolePath =
  /^\/(?:$|approvals(?:\/|$)|p\/|api\/(?:auth|features|pending-changes|environments|audit)(?:\/|$))/;

/** For a path that this server does not serve. `hasConsole` says whether it has the console. */
function nothingAt(path: string, hasConsole: boolean): HttpProblem {
  return new HttpProblem(
    'not_found',
    hasConsole || !consolePath.test(path)
      ? `There is nothing at ${path}`
      : `There is nothing at ${path}: the console is not installed. Run npm install @flagcast/console and start the server again; a program of yours gives createFlagcast the option console`,
  );
}

/** An app with default headers, the check of host and path, and responses for unknown paths and errors. */
function createBareApp(
  { authorizer, lifecycle }: Pick<AppOptions, 'authorizer' | 'lifecycle'>,
  hasConsole = true,
): App {
  const app: App = new OpenAPIHono<AppEnv>();
  app.use(async (context, next) => {
    for (const [name, value] of apiHeaders) context.header(name, value);
    // The framework's own URL has been normalized.
    authorizer.checkTarget(context.env.incoming);
    await next();
  });
  app.notFound((context) => sendProblem(context, nothingAt(context.req.path, hasConsole)));
  app.onError((error, context) => sendError(context, error, lifecycle));
  return app;
}

function addMonitoring(app: App, { metrics, notReady }: MonitoringOptions): void {
  addRoute(app, systemRoutes.health, (context) => context.json({ status: 'ok' }));
  addRoute(app, systemRoutes.readiness, (context) => {
    const reason = notReady();
    return reason === null
      ? context.json({ status: 'ready' })
      : context.json({ status: 'not ready', reason }, 503);
  });
  addRoute(app, systemRoutes.metrics, async (context) => {
    context.header('Content-Type', metrics.contentType);
    return context.body(await metrics.metrics());
  });
}

/** Serves only /metrics, /healthz and /readyz, on a port of their own. */
export function createMonitoringApp(options: MonitoringOptions): App {
  const app = createBareApp(options);
  addMonitoring(app, options);
  return app;
}

/** Serves all HTTP requests: monitoring, snapshots, server-sent events, the console. */
export function createApp(options: AppOptions): App {
  const { createConsole } = options;
  const app = createBareApp(options, createConsole !== null);
  app.use('/api/*', cors(options.originPolicy));
  if (!options.separateMonitoring) addMonitoring(app, options);
  addProjects(app, options);
  addSnapshot(app, options);
  addEventStreams(app, options);
  addRoute(app, systemRoutes.socket, (context) =>
    sendProblem(
      context,
      new HttpProblem('upgrade_required', 'This is a WebSocket endpoint: connect with ws:// or wss://'),
    ),
  );
  if (createConsole !== null) app.route('/', createConsole(options));
  app.openAPIRegistry.registerComponent('securitySchemes', 'bearer', {
    type: 'http',
    scheme: 'bearer',
    bearerFormat: 'JWT',
  });
  let openApi: object | null = null;
  addRoute(app, systemRoutes.document, (context) => {
    openApi ??= app.getOpenAPI31Document(documentHead);
    return context.json(openApi);
  });
  return app;
}

function addProjects(app: App, { authorizer, authorization, sessions }: AppOptions): void {
  addRoute(app, systemRoutes.projects, async (context) => {
    authorizer.checkOrigin(context.env.incoming);
    const principal = await authorizer.authenticate(context.env.incoming);
    const projects = await authorization.visibleProjects(principal.user.id);
    const ids = projects.flatMap(({ environments }) => environments.map(({ id }) => id));
    const guards = await readGuards(sessions.authorization, ids);
    context.header('Cache-Control', 'no-store');
    return context.json({
      projects: projects.map((project) => ({
        ...project,
        environments: project.environments.map((environment) => {
          const { by = null, at = null } = guards.get(environment.id) ?? {};
          return { ...environment, guarded: by !== null, guarded_by: by, guarded_at: at };
        }),
      })),
    });
  });
}

function addSnapshot(app: App, options: AppOptions): void {
  const { authorizer, requestSlots, responseMemory, snapshots } = options;
  addRoute(app, systemRoutes.snapshot, async (context) => {
    const { incoming, outgoing } = context.env;
    authorizer.checkOrigin(incoming);
    const wanted = subscriptionFromQuery(new URL(context.req.url).searchParams);
    const principal = await authorizer.authenticate(incoming);
    const userId = principal.user.id;
    outgoing.appendHeader('Vary', 'Accept-Encoding');
    const isGzipped = acceptsGzip(context);
    // The slot is held until there is memory for the response: a waiting response takes memory, too.
    return await requestSlots.run(userId, outgoing, async () => {
      // After the wait, which may have been long: the user's rights may have changed.
      const snapshot =
        'feed' in wanted
          ? await takeApprovals(options, principal)
          : await snapshots.take(await authorizer.openChannel(principal, wanted));
      if (snapshot === null) return sendProblem(context, unavailable());
      const bytes = isGzipped ? await snapshot.gzipped() : snapshot.bytes;
      return context.body(await responseMemory.body(bytes, userId, outgoing), 200, {
        'Cache-Control': 'no-store',
        'Content-Type': 'application/json; charset=utf-8',
        'Content-Length': String(bytes.length),
        ...(isGzipped ? { 'Content-Encoding': 'gzip' } : {}),
      });
    });
  });
}

function addEventStreams(app: App, { eventStreams }: AppOptions): void {
  addRoute(app, systemRoutes.events, async (context) => {
    const { incoming, outgoing } = context.env;
    // The framework passes HEAD to the handler of GET, and a stream has no response without a body.
    if (incoming.method !== 'GET') {
      throw new HttpProblem('method_not_allowed', 'A stream of events is opened with GET or POST');
    }
    await eventStreams.open(incoming, outgoing);
    return RESPONSE_ALREADY_SENT;
  });
  app.use(systemRoutes.eventsOfSeveral.path, limitBody);
  addRoute(
    app,
    systemRoutes.eventsOfSeveral,
    async (context) => {
      const { data, error } = subscriptionsBody.safeParse(await context.req.json().catch(() => undefined));
      if (error !== undefined) throw invalidInput(error);
      await eventStreams.openAll(context.env.incoming, context.env.outgoing, data.subscribe);
      return RESPONSE_ALREADY_SENT;
    },
    'post',
  );
}

async function takeApprovals(
  { authorizer, authorization, sessions, snapshots }: AppOptions,
  principal: Principal,
): Promise<EncodedSnapshot | null> {
  const { user } = principal;
  const [scope, rights, projects] = await Promise.all([
    authorizer.openApprovals(principal),
    authorization.rightsOf(user.id),
    authorization.visibleProjects(user.id),
  ]);
  const projectIds = projects.map(({ id }) => id);
  const mayDecide = await decidableProjects(sessions.requests, rights, projectIds);
  return await snapshots.takeApprovals({ user, scope, mayDecide: [...mayDecide] });
}

const preflightHeaders: Readonly<Record<string, string>> = {
  'Access-Control-Allow-Methods': 'GET, POST, PATCH, DELETE',
  'Access-Control-Allow-Headers': 'Authorization, Content-Type, Last-Event-ID',
  // The longest that any browser keeps it. The request itself is checked again.
  'Access-Control-Max-Age': '7200',
};

/**
 * Lets pages of listed origins read responses, and answers their preflights; the authorizer decides what a page may
 * request. Unlike the middleware of the framework, it sets the headers on the Node response, because streams bypass the
 * framework and a host may have set headers of its own, and it answers no preflight of an unlisted origin. Credentials
 * are never allowed: a cookie of the host's is for pages of its own origin.
 */
function cors(policy: OriginPolicy): MiddlewareHandler<AppEnv> {
  return async (context, next) => {
    const { incoming, outgoing } = context.env;
    outgoing.appendHeader('Vary', 'Origin');
    const origin = policy.corsOriginOf(incoming);
    if (origin !== null) {
      outgoing.setHeader('Access-Control-Allow-Origin', origin);
      outgoing.setHeader('Access-Control-Expose-Headers', 'Retry-After');
      const isPreflight =
        incoming.method === 'OPTIONS' && incoming.headers['access-control-request-method'] !== undefined;
      if (isPreflight) return context.body(null, 204, preflightHeaders);
    }
    await next();
    return undefined;
  };
}

/** Returns a function that says, by its path alone, whether a request is for a route that `/api/openapi.json` describes. */
export function routeMatcher({ openAPIRegistry }: App): (request: Pick<IncomingMessage, 'url'>) => boolean {
  const paths = openAPIRegistry.definitions.flatMap((definition) =>
    definition.type === 'route' ? [definition.route.path.replace(/\{\w+\}/g, '[^/]+')] : [],
  );
  const pattern = new RegExp(`^(?:${[...new Set(paths)].join('|').replaceAll('.', '[.]')})$`);
  return ({ url = '' }) => pattern.test(url.split(/[?#]/, 1)[0] ?? '');
}
