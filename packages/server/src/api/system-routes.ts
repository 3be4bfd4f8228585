import { createRoute, z } from '@hono/zod-openapi';
import { bearerSecurity, commonRefusals, heavyRefusal, jsonAnswer } from './answers.js';
import { channelParameters, errorSchema, featureSchema, projectsSchema } from './schemas.js';

const text = (
  description: string,
  type: string,
): { description: string; content: Record<string, object> } => ({
  description,
  content: { [type]: { schema: { type: 'string' } } },
});

const cursorParameter = {
  name: 'cursor',
  in: 'query',
  required: false,
  description: 'Where the stream goes on; without one it begins now',
  schema: { type: 'string' },
} as const;

const tooManyRefusal = {
  429: jsonAnswer('The user or the address has too many connections open', errorSchema),
};

const snapshotSchema = z
  .object({
    project_id: z.string(),
    environment: z.string(),
    environment_id: z.string(),
    cursor: z.string().openapi({ description: 'Where the stream goes on' }),
    embedded_state: z.boolean().openapi({
      description: 'Whether the server can read the state of features; if not, both lists are empty',
    }),
    features: z.array(featureSchema),
    pending_changes: z.array(
      z.object({
        id: z.string(),
        requested_by: z.string(),
        created_at: z.string(),
        reason: z.string().nullable(),
        change: z.unknown(),
        entities: z.array(
          z.object({ entity: z.string(), entity_id: z.string(), feature_id: z.string().nullable() }),
        ),
      }),
    ),
  })
  .openapi('Snapshot');

/** What monitors ask for, and the ways to the live events: the definitions, for the document. */
export const systemRoutes = {
  health: createRoute({
    method: 'get',
    path: '/healthz',
    operationId: 'getHealth',
    summary: 'Whether the process lives',
    responses: { 200: jsonAnswer('It does', z.object({ status: z.literal('ok') })) },
  }),
  readiness: createRoute({
    method: 'get',
    path: '/readyz',
    operationId: 'getReadiness',
    summary: 'Whether this server should get new clients',
    responses: {
      200: jsonAnswer('It should', z.object({ status: z.literal('ready') })),
      503: jsonAnswer('It should not', z.object({ status: z.literal('not ready'), reason: z.string() })),
    },
  }),
  metrics: createRoute({
    method: 'get',
    path: '/metrics',
    operationId: 'getMetrics',
    summary: "Metrics in Prometheus' text format",
    responses: { 200: text('The samples', 'text/plain') },
  }),
  document: createRoute({
    method: 'get',
    path: '/api/openapi.json',
    operationId: 'getOpenApi',
    summary: 'This document',
    responses: {
      200: { description: 'OpenAPI 3.1', content: { 'application/json': { schema: { type: 'object' } } } },
    },
  }),
  projects: createRoute({
    method: 'get',
    path: '/api/projects',
    operationId: 'listProjects',
    summary: 'The projects that the user may see, with their environments',
    security: bearerSecurity,
    responses: {
      200: jsonAnswer('By name, without archived ones', projectsSchema),
      401: commonRefusals[401],
      403: commonRefusals[403],
      503: commonRefusals[503],
    },
  }),
  snapshot: createRoute({
    method: 'get',
    path: '/api/snapshot',
    operationId: 'getSnapshot',
    summary: 'The features and open requests of an environment, and the cursor that they are true at',
    security: bearerSecurity,
    parameters: [...channelParameters],
    responses: { 200: jsonAnswer('One moment', snapshotSchema), ...commonRefusals, ...heavyRefusal },
  }),
  events: createRoute({
    method: 'get',
    path: '/api/events',
    operationId: 'streamEvents',
    summary: 'The live events of an environment as server-sent events; PROTOCOL.md describes them',
    security: bearerSecurity,
    parameters: [...channelParameters, cursorParameter],
    responses: {
      200: text('Until the client leaves; the id of an event is its cursor', 'text/event-stream'),
      ...commonRefusals,
      ...tooManyRefusal,
    },
  }),
  socket: createRoute({
    method: 'get',
    path: '/api/ws',
    operationId: 'openSocket',
    summary: 'The live events over a WebSocket; PROTOCOL.md describes its messages',
    security: bearerSecurity,
    parameters: [...channelParameters, cursorParameter],
    responses: {
      101: { description: 'Connected' },
      ...commonRefusals,
      426: jsonAnswer('upgrade_required: this was no WebSocket handshake', errorSchema),
      ...tooManyRefusal,
    },
  }),
} as const;

/** What stands above the routes in the document. */
export const documentHead = {
  openapi: '3.1.0',
  info: {
    title: 'Flagcast',
    version: '1',
    description:
      'Feature flags in PostgreSQL, with every change live. All refusals have the body {code, message}; a code is stable, a message is for people. Pages of other origins can ask where their origin is listed (FLAGCAST_ALLOWED_ORIGINS).',
  },
};
