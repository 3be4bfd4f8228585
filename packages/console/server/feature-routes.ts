import { createRoute, z, sendJson } from 'flagcast/support';
import { unknownFeature, unknownEnvironment } from './problems.js';
import type { Context } from 'hono';
import { readFeatureDetails, readFeatures } from './feature-reads.js';
import { readPendingChanges } from './pending-change-reads.js';
import type { RestApp, RestContext, RestEnv } from './rest.js';
import { openChangeSchema } from './request-schemas.js';
import * as schemas from './schemas.js';
import { createFeature, deleteFeature, updateFeature, type WriteOutcome } from './writes/feature-writes.js';
import { projectOf } from './writes/feature.js';

const environmentName = z.object({ id: z.string(), key: z.string(), name: z.string() });
const anyRows = z.array(z.record(z.string(), z.unknown()));

const featureDetails = z
  .object({
    project_id: z.string(),
    environment: environmentName,
    feature: schemas.featureSchema,
    rules: anyRows,
    schedules: anyRows,
    pending_changes: z
      .array(openChangeSchema)
      .describe('Those about this feature, in every environment, newest first'),
  })
  .openapi('FeatureDetails');

const createdFeature = z
  .object({
    id: z.string(),
    environments: z.array(environmentName.extend({ feature: schemas.featureSchema })),
  })
  .openapi('CreatedFeature');

const requestedResponse = schemas.jsonResponse(
  'The environment or the feature is guarded: nothing was changed, the change waits for approval',
  z.object({ pending_change: openChangeSchema.nullable() }).openapi('Requested'),
);

const writeConflict = schemas.jsonResponse(
  'stale_version (with current and changed_by), change_pending, key_taken, database_refused',
  schemas.staleSchema,
);

/** Features: read, created, changed, deleted. */
export function addFeatureRoutes(app: RestApp, context: RestContext): void {
  addFeatureReads(app, context);
  addFeatureCreation(app, context);
  addFeatureChanges(app, context);
}

function addFeatureReads(
  app: RestApp,
  { authorization, boundedRead, openChannel, reads }: RestContext,
): void {
  app.openapi(
    createRoute({
      method: 'get',
      path: '/api/features',
      operationId: 'listFeatures',
      summary: 'The features of a project as they are in one environment, by key',
      ...boundedRead,
      parameters: schemas.channelParameters,
      responses: {
        200: schemas.jsonResponse(
          'All of them',
          z.object({ features: z.array(schemas.listedFeatureSchema) }).openapi('FeatureList'),
        ),
        ...schemas.commonRefusals,
        ...schemas.heavyRefusal,
        ...schemas.missingRefusal,
      },
    }),
    async (request) => {
      const channel = await openChannel(request);
      return request.json({ features: await readFeatures(reads(request), channel) }, 200);
    },
  );

  app.openapi(
    createRoute({
      method: 'get',
      path: '/api/features/{id}',
      operationId: 'getFeature',
      summary: 'A feature in one environment, with its rules, schedules and open requests',
      ...boundedRead,
      request: { params: schemas.idParameter, query: schemas.environmentQuery },
      responses: {
        200: schemas.jsonResponse('The feature', featureDetails),
        ...schemas.commonRefusals,
        ...schemas.heavyRefusal,
        ...schemas.missingRefusal,
      },
    }),
    async (request) => {
      const featureId = featureIdOf(request.req.valid('param').id);
      const pool = reads(request);
      const projectId = await projectOf(pool, featureId);
      const rights = await authorization.rightsOf(request.get('principal').user.id, projectId);
      rights.require(projectId, 'project.view');
      const [details, { changes }] = await Promise.all([
        readFeatureDetails(pool, featureId, request.req.valid('query').env),
        readPendingChanges(pool, rights, { projectIds: [projectId], featureId }),
      ]);
      if (!rights.mayView(projectId, details.environment.id)) throw unknownEnvironment();
      return sendJson(request, { project_id: projectId, ...details, pending_changes: changes }, 200);
    },
  );
}

function addFeatureCreation(app: RestApp, { write, writeSessions }: RestContext): void {
  app.openapi(
    createRoute({
      method: 'post',
      path: '/api/features',
      operationId: 'createFeature',
      summary: 'Creates a feature, off in every environment',
      ...write,
      request: { body: schemas.jsonBody(schemas.createBody) },
      responses: {
        201: schemas.jsonResponse('Made', createdFeature),
        409: schemas.errorResponse('key_taken, database_refused'),
        ...schemas.writeRefusals,
      },
    }),
    async (request) => {
      const body = request.req.valid('json');
      const userId = request.get('principal').user.id;
      return request.json(await createFeature(writeSessions(request), userId, body), 201);
    },
  );
}

function addFeatureChanges(app: RestApp, { authorization, reads, write, writeSessions }: RestContext): void {
  /** The request as the approvals page shows it; null if it has been decided already. */
  const readRequested = async (
    request: Context<RestEnv>,
    { projectId, pendingChangeId }: Extract<WriteOutcome, { requested: unknown }>['requested'],
  ): Promise<{ pending_change: object | null }> => {
    const rights = await authorization.rightsOf(request.get('principal').user.id, projectId);
    const wanted = { projectIds: [projectId], pendingChangeId };
    const { changes } = await readPendingChanges(reads(request), rights, wanted);
    return { pending_change: changes[0] ?? null };
  };

  app.openapi(
    createRoute({
      method: 'patch',
      path: '/api/features/{id}',
      operationId: 'updateFeature',
      summary: 'Changes some fields, or requests the change if the environment or the feature is guarded',
      description:
        'enabled and default_value are those of the environment env; the other fields apply to every environment. A guarded environment, or a feature with the tag guarded, needs a reason. The rollout key applies to every environment: if any of them is guarded, its change waits there.',
      ...write,
      request: { params: schemas.idParameter, body: schemas.jsonBody(schemas.updateBody) },
      responses: {
        200: schemas.jsonResponse(
          'Changed: the feature as it is now',
          z.object({ feature: schemas.featureSchema }).openapi('ChangedFeature'),
        ),
        202: requestedResponse,
        409: writeConflict,
        ...schemas.writeRefusals,
      },
    }),
    async (request) => {
      const featureId = featureIdOf(request.req.valid('param').id);
      const { env, version, reason, ...wanted } = request.req.valid('json');
      const basis = { userId: request.get('principal').user.id, featureId, env, version, reason };
      const outcome = await updateFeature(writeSessions(request), basis, wanted);
      if ('requested' in outcome) {
        return sendJson(request, await readRequested(request, outcome.requested), 202);
      }
      return request.json({ feature: outcome.feature }, 200);
    },
  );

  app.openapi(
    createRoute({
      method: 'delete',
      path: '/api/features/{id}',
      operationId: 'deleteFeature',
      summary: 'Deletes a feature, or requests it if the feature or an environment of its project is guarded',
      ...write,
      request: { params: schemas.idParameter, body: schemas.jsonBody(schemas.deleteBody) },
      responses: {
        200: schemas.jsonResponse('Deleted', z.object({ feature: z.null() }).openapi('DeletedFeature')),
        202: requestedResponse,
        409: writeConflict,
        ...schemas.writeRefusals,
      },
    }),
    async (request) => {
      const featureId = featureIdOf(request.req.valid('param').id);
      const basis = { userId: request.get('principal').user.id, featureId, ...request.req.valid('json') };
      const outcome = await deleteFeature(writeSessions(request), basis);
      if (outcome !== null) {
        return sendJson(request, await readRequested(request, outcome.requested), 202);
      }
      return request.json({ feature: null }, 200);
    },
  );
}

function featureIdOf(value: string): string {
  if (!schemas.isUuid(value)) throw unknownFeature();
  return value.toLowerCase();
}
