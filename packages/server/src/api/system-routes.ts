import { z } from '@hono/zod-openapi';
import * as schemas from './schemas.js';

const textResponse = (
  description: string,
  type: string,
): { description: string; content: Record<string, object> } => ({
  description,
  content: { [type]: { schema: { type: 'string' } } },
});

const tooManyRefusal = {
  429: schemas.errorResponse('The user or the address has too many connections open'),
};

/** The body of a request for a stream of several subscriptions: each as the client would send it over a WebSocket. */
export const subscriptionsBody = z
  .strictObject({
    subscribe: z
      .array(
        z.strictObject({
          project_id: z.string().optional(),
          env: z.string().optional(),
          env_id: z.string().optional(),
          feed: z.string().optional(),
          scope: z.string().optional(),
          cursor: z.string().optional(),
        }),
      )
      .min(1)
      // Above the limit of channels, each is refused as over a WebSocket.
      .max(100),
  })
  .openapi('Subscriptions');

const snapshotSchema = z
  .object({
    project_id: z.string(),
    environment: z.string(),
    environment_id: z.string(),
    cursor: z.string().describe('The position from which the stream continues'),
    embedded_state: z
      .boolean()
      .describe('Whether the server can read the state of features; if not, both lists are empty'),
    features: z.array(schemas.featureSchema),
    pending_changes: z.array(
      z.object({
        id: z.string(),
        project_id: z.string(),
        environment_id: z.string(),
        environment: z.string().nullable(),
        status: z.string(),
        requested_by: z.string(),
        requested_by_id: z.string().nullable(),
        created_at: z.string(),
        version: z.string(),
        reason: z.string().nullable(),
        entities: z.array(
          z.object({
            entity: z.string(),
            entity_id: z.string(),
            action: z.string().nullable(),
            feature_id: z.string().nullable(),
            feature_key: z.string().nullable(),
            feature_name: z.string().nullable(),
            feature_version: z.string().nullable(),
            diff: z
              .array(z.object({ field: z.string(), old: z.string(), new: z.string() }))
              .describe('The values are JSON texts'),
          }),
        ),
        decided_by: z.string().nullable(),
        decided_at: z.string().nullable(),
        decision_reason: z.string().nullable(),
      }),
    ),
  })
  .openapi('Snapshot');

/** The definitions of the routes of monitoring, projects, snapshots and streams, for the document. */
export const systemRoutes = {
  health: {
    path: '/healthz',
    operationId: 'getHealth',
    summary: 'Whether the process lives',
    responses: { 200: schemas.jsonResponse('It does', z.object({ status: z.literal('ok') })) },
  },
  readiness: {
    path: '/readyz',
    operationId: 'getReadiness',
    summary: 'Whether this server should get new clients',
    responses: {
      200: schemas.jsonResponse('It should', z.object({ status: z.literal('ready') })),
      503: schemas.jsonResponse(
        'It should not',
        z.object({ status: z.literal('not ready'), reason: z.string() }),
      ),
    },
  },
  metrics: {
    path: '/metrics',
    operationId: 'getMetrics',
    summary: "Metrics in Prometheus' text format",
    responses: { 200: textResponse('The samples', 'text/plain') },
  },
  document: {
    path: '/api/openapi.json',
    operationId: 'getOpenApi',
    summary: 'This document',
    responses: {
      200: {
        description: 'OpenAPI 3.1',
        content: { 'application/json': { schema: { type: 'object' as const } } },
      },
    },
  },
  projects: {
    path: '/api/projects',
    operationId: 'listProjects',
    summary: 'The projects that the user may see, with their environments',
    security: schemas.bearerSecurity,
    responses: {
      200: schemas.jsonResponse('By name, without archived ones', schemas.projectsSchema),
      401: schemas.commonRefusals[401],
      403: schemas.commonRefusals[403],
      503: schemas.commonRefusals[503],
    },
  },
  snapshot: {
    path: '/api/snapshot',
    operationId: 'getSnapshot',
    summary: 'The features and open requests of an environment, and the cursor that they are true at',
    security: schemas.bearerSecurity,
    parameters: schemas.channelParameters,
    responses: {
      200: schemas.jsonResponse('One moment', snapshotSchema),
      ...schemas.commonRefusals,
      ...schemas.heavyRefusal,
    },
  },
  events: {
    path: '/api/events',
    operationId: 'streamEvents',
    summary: 'The live events of an environment as server-sent events; PROTOCOL.md describes them',
    security: schemas.bearerSecurity,
    parameters: [...schemas.channelParameters, schemas.cursorParameter],
    responses: {
      200: textResponse('Until the client leaves; the id of an event is its cursor', 'text/event-stream'),
      ...schemas.commonRefusals,
      ...tooManyRefusal,
    },
  },
  eventsOfSeveral: {
    path: '/api/events',
    operationId: 'streamEventsOfSeveral',
    summary: 'One stream of server-sent events for several environments and the approvals feed',
    security: schemas.bearerSecurity,
    request: { body: schemas.jsonBody(subscriptionsBody) },
    responses: {
      200: textResponse('Until the client leaves', 'text/event-stream'),
      ...schemas.commonRefusals,
      ...tooManyRefusal,
    },
  },
  socket: {
    path: '/api/ws',
    operationId: 'openSocket',
    summary: 'The live events over a WebSocket; PROTOCOL.md describes its messages',
    security: schemas.bearerSecurity,
    parameters: [...schemas.channelParameters, schemas.cursorParameter],
    responses: {
      101: { description: 'Connected' },
      ...schemas.commonRefusals,
      426: schemas.errorResponse('upgrade_required: this was no WebSocket handshake'),
      ...tooManyRefusal,
    },
  },
};

/** The head of the document. */
export const documentHead = {
  openapi: '3.1.0',
  info: {
    title: 'Flagcast',
    version: '1',
    description:
      'Feature flags in PostgreSQL, with every change live. All refusals have the body {code, message}; a code is stable, a message is for people. Pages of other origins can ask where their origin is listed (FLAGCAST_ALLOWED_ORIGINS).',
  },
};
