import type { HttpBindings } from '@hono/node-server';
import { RESPONSE_ALREADY_SENT } from '@hono/node-server/utils/response';
import { OpenAPIHono } from '@hono/zod-openapi';
import type { Handler } from 'hono';
import type { Registry } from 'prom-client';
import type { OriginPolicy } from '../auth/origin-policy.js';
import { readGuards } from '../host/environments.js';
import { HttpProblem, unavailable } from '../http-problem.js';
import { type RequestAuthorizer } from '../auth/request-authorizer.js';
import { channelFromQuery } from '../auth/request-target.js';
import type { SnapshotSource } from '../replay/snapshot.js';
import type { Lifecycle } from '../lifecycle.js';
import { acceptsGzip } from './answers.js';
import { createConsoleApp } from './console-files.js';
import { crossOrigin } from './cross-origin.js';
import type { EventStreams } from '../transport/event-stream.js';
import { answerError, answerProblem } from './problem.js';
import { createRestApi, type RestOptions } from './rest.js';
import { documentHead, systemRoutes } from './system-routes.js';
import { defaultHeaders } from '../transport/default-headers.js';

export interface AppOptions extends RestOptions {
  authorizer: RequestAuthorizer;
  originPolicy: OriginPolicy;
  snapshots: SnapshotSource;
  eventStreams: EventStreams;
  metrics: Registry;
  lifecycle: Lifecycle;
  /** Why this server should get no new clients; null when it is ready for them. */
  notReady: () => string | null;
  /** Whether /metrics, /healthz and /readyz are left to the monitoring app. */
  separateMonitoring: boolean;
  /** The folder of the built console; null to serve none. */
  consoleDir: string | null;
}

/** Answers are for programs: no page shows them, frames them, or takes them for something else. The console's pages have their own. */
const answerHeaders: Readonly<Record<string, string>> = {
  'Content-Security-Policy': "default-src 'none'; frame-ancestors 'none'",
  ...defaultHeaders,
};

interface AppEnv {
  Bindings: HttpBindings;
}

type AddRoute = (route: (typeof systemRoutes)[keyof typeof systemRoutes], handler: Handler<AppEnv>) => void;

/** A route and its description go in together, so that the document has every one. */
function adderTo(app: OpenAPIHono<AppEnv>): AddRoute {
  return (route, handler) => {
    app.openAPIRegistry.registerPath(route);
    app.get(route.path, handler);
  };
}

/** What every app has: headers, the check of host and path, the answers to unknown paths and to errors. */
function createBareApp({
  authorizer,
  lifecycle,
}: Pick<AppOptions, 'authorizer' | 'lifecycle'>): OpenAPIHono<AppEnv> {
  const app = new OpenAPIHono<AppEnv>();
  app.use(async (context, next) => {
    for (const [name, value] of Object.entries(answerHeaders)) context.header(name, value);
    // The framework's own URL has been normalized.
    authorizer.checkTarget(context.env.incoming);
    await next();
  });
  app.notFound((context) =>
    answerProblem(context, new HttpProblem(404, 'not_found', `There is nothing at ${context.req.path}`)),
  );
  app.onError((error, context) => answerError(context, error, lifecycle));
  return app;
}

function addMonitoring(add: AddRoute, { metrics, notReady }: MonitoringOptions): void {
  add(systemRoutes.health, (context) => context.json({ status: 'ok' }));

  add(systemRoutes.readiness, (context) => {
    const reason = notReady();
    return reason === null
      ? context.json({ status: 'ready' })
      : context.json({ status: 'not ready', reason }, 503);
  });

  add(systemRoutes.metrics, async (context) => {
    context.header('Content-Type', metrics.contentType);
    return context.body(await metrics.metrics());
  });
}

type MonitoringOptions = Pick<AppOptions, 'authorizer' | 'lifecycle' | 'metrics' | 'notReady'>;

/** Answers /metrics, /healthz and /readyz, and nothing else: for a port of their own. */
export function createMonitoringApp(options: MonitoringOptions): OpenAPIHono<AppEnv> {
  const app = createBareApp(options);
  addMonitoring(adderTo(app), options);
  return app;
}

/** The HTTP side: what load balancers, monitoring, clients and the console ask for beside the socket. */
export function createApp(options: AppOptions): OpenAPIHono<AppEnv> {
  const {
    authorizer,
    originPolicy,
    authorization,
    sessions,
    snapshots,
    eventStreams,
    requestSlots,
    answerMemory,
  } = options;
  const app = createBareApp(options);
  const add = adderTo(app);
  app.use('/api/*', crossOrigin(originPolicy));

  if (!options.separateMonitoring) addMonitoring(add, options);

  add(systemRoutes.projects, async (context) => {
    authorizer.checkOrigin(context.env.incoming);
    const principal = await authorizer.admit(context.env.incoming);
    const projects = await authorization.visibleProjects(principal.user.id);
    const ids = projects.flatMap(({ environments }) => environments.map(({ id }) => id));
    const guards = await readGuards(sessions.authorization, ids);
    context.header('Cache-Control', 'no-store');
    return context.json({
      projects: projects.map((project) => ({
        ...project,
        environments: project.environments.map((each) => {
          const guard = guards.get(each.id);
          return {
            ...each,
            guarded: guard !== undefined,
            guarded_by: guard?.by ?? null,
            guarded_at: guard?.at ?? null,
          };
        }),
      })),
    });
  });

  add(systemRoutes.snapshot, async (context) => {
    const { incoming, outgoing } = context.env;
    authorizer.checkOrigin(incoming);
    const wanted = channelFromQuery(new URL(context.req.url).searchParams);
    const principal = await authorizer.admit(incoming);
    outgoing.appendHeader('Vary', 'Accept-Encoding');
    const isGzipped = acceptsGzip(context);
    // The slot is held until there is room for the answer: what waits for room takes memory, too.
    return await requestSlots.run(principal.user.id, outgoing, async () => {
      // Rights are checked last: a request may have waited for its turn.
      const channel = await authorizer.openChannel(principal, wanted);
      const snapshot = await snapshots.take(channel);
      if (snapshot === null) return answerProblem(context, unavailable());
      const bytes = isGzipped ? await snapshot.gzipped() : snapshot.bytes;
      return context.body(await answerMemory.body(bytes, principal.user.id, outgoing), 200, {
        'Cache-Control': 'no-store',
        'Content-Type': 'application/json; charset=utf-8',
        'Content-Length': String(bytes.length),
        ...(isGzipped ? { 'Content-Encoding': 'gzip' } : {}),
      });
    });
  });

  add(systemRoutes.events, async (context) => {
    // The framework gives HEAD to the handler of GET, and a stream without a body is none.
    if (context.env.incoming.method !== 'GET') {
      throw new HttpProblem(405, 'method_not_allowed', 'A stream of events is opened with GET');
    }
    await eventStreams.open(context.env.incoming, context.env.outgoing);
    return RESPONSE_ALREADY_SENT;
  });

  add(systemRoutes.socket, (context) =>
    answerProblem(
      context,
      new HttpProblem(426, 'upgrade_required', 'This is a WebSocket endpoint: connect with ws:// or wss://'),
    ),
  );

  app.route('/', createRestApi(options));

  app.openAPIRegistry.registerComponent('securitySchemes', 'bearer', {
    type: 'http',
    scheme: 'bearer',
    bearerFormat: 'JWT',
  });
  let openApi: object | null = null;
  add(systemRoutes.document, (context) => {
    openApi ??= app.getOpenAPI31Document(documentHead);
    return context.json(openApi);
  });

  app.route('/', createConsoleApp(options.consoleDir));

  return app;
}
