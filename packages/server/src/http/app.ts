import type { HttpBindings } from '@hono/node-server';
import { RESPONSE_ALREADY_SENT } from '@hono/node-server/utils/response';
import { Hono } from 'hono';
import type { Registry } from 'prom-client';
import type { Access } from '../access/access.js';
import { channelFromQuery, type Door, RefusedError, unavailable } from '../door/door.js';
import { type Refusal, refusalHeaders } from '../door/refusal.js';
import type { SnapshotSource } from '../history/snapshot.js';
import type { Lifecycle } from '../lifecycle.js';
import type { EventStreams } from './event-stream.js';

export interface AppOptions {
  door: Door;
  access: Access;
  snapshots: SnapshotSource;
  eventStreams: EventStreams;
  metrics: Registry;
  lifecycle: Lifecycle;
  /** Why this server should get no new clients; null when it is ready for them. */
  notReady: () => string | null;
}

/** The HTTP side: what load balancers, monitoring and clients ask for beside the socket. */
export function createApp(options: AppOptions): Hono<{ Bindings: HttpBindings }> {
  const { door, access, snapshots, eventStreams, metrics, lifecycle, notReady } = options;
  const app = new Hono<{ Bindings: HttpBindings }>();

  app.get('/healthz', (context) => context.json({ status: 'ok' }));

  app.get('/readyz', (context) => {
    const reason = notReady();
    return reason === null
      ? context.json({ status: 'ready' })
      : context.json({ status: 'not ready', reason }, 503);
  });

  app.get('/metrics', async (context) => {
    context.header('Content-Type', metrics.contentType);
    return context.body(await metrics.metrics());
  });

  app.get('/api/projects', async (context) => {
    door.checkOrigin(context.env.incoming);
    const visitor = await door.admit(context.env.incoming);
    context.header('Cache-Control', 'no-store');
    return context.json({ projects: await access.visibleProjects(visitor.user.id) });
  });

  app.get('/api/snapshot', async (context) => {
    const { incoming } = context.env;
    door.checkOrigin(incoming);
    const wanted = channelFromQuery(new URL(context.req.url).searchParams);
    const channel = await door.openChannel(await door.admit(incoming), wanted);
    const snapshot = await snapshots.take(channel);
    if (snapshot === null) return answer(context, unavailable);
    context.header('Cache-Control', 'no-store');
    context.header('Content-Type', 'application/json; charset=utf-8');
    return context.body(snapshot);
  });

  app.get('/api/events', async (context) => {
    await eventStreams.open(context.env.incoming, context.env.outgoing);
    return RESPONSE_ALREADY_SENT;
  });

  app.get('/api/ws', (context) =>
    answer(context, {
      status: 426,
      code: 'upgrade_required',
      message: 'This is a WebSocket endpoint: connect with ws:// or wss://',
    }),
  );

  app.notFound((context) =>
    answer(context, { status: 404, code: 'not_found', message: `There is nothing at ${context.req.path}` }),
  );

  app.onError((error, context) => {
    if (error instanceof RefusedError) return answer(context, error.refusal);
    lifecycle.emit('access:failed', { error });
    return answer(context, unavailable);
  });

  return app;
}

function answer(
  context: { json(body: object, status: Refusal['status'], headers: Record<string, string>): Response },
  refusal: Refusal,
): Response {
  const { status, code, message } = refusal;
  return context.json({ code, message }, status, refusalHeaders(refusal));
}
