import { createRoute, z } from '@hono/zod-openapi';
import { unknownFeature, unknownEnvironment } from './problem.js';
import { projectOf } from './writes/feature.js';
import type { WriteOutcome } from './writes/feature-writes.js';
import type { SessionSource } from '../postgres/session-pool.js';
import { channelFromQuery } from '../auth/request-target.js';
import { readFeatureDetails, readFeatures } from './feature-reads.js';
import { type OpenChange, readOpenChanges } from './pending-change-reads.js';
import {
  answerJson,
  bearerSecurity,
  commonRefusals,
  heavyRefusal,
  isUuid,
  jsonAnswer,
  missingRefusal,
  queryOf,
  writeRefusals,
} from './answers.js';
import type { RestApp, RestContext } from './rest.js';
import {
  channelParameters,
  createBody,
  deleteBody,
  environmentQuery,
  errorSchema,
  featureSchema,
  idParameter,
  listedFeatureSchema,
  openChangeSchema,
  staleSchema,
  updateBody,
} from './schemas.js';

const requestedAnswer = jsonAnswer(
  'The environment or the feature is guarded: nothing was changed, the change waits for its approval',
  z.object({ pending_change: openChangeSchema.nullable() }).openapi('Requested'),
);

const writeConflict = jsonAnswer(
  'stale_version (with current and changed_by), change_pending, key_taken, database_refused',
  staleSchema,
);

const place = z.object({ id: z.string(), key: z.string(), name: z.string() });

/** Features: read, created, changed, deleted. */
export function addFeatureRoutes(app: RestApp, context: RestContext): void {
  const { authorizer, authorization, reads, features, admit, bounded, writable } = context;

  app.openapi(
    createRoute({
      method: 'get',
      path: '/api/features',
      operationId: 'listFeatures',
      summary: 'The features of a project as they are in one environment, by key',
      security: bearerSecurity,
      middleware: [admit, bounded] as const,
      parameters: [...channelParameters],
      responses: {
        200: jsonAnswer(
          'All of them',
          z.object({ features: z.array(listedFeatureSchema) }).openapi('FeatureList'),
        ),
        ...commonRefusals,
        ...heavyRefusal,
        ...missingRefusal,
      },
    }),
    async (request) => {
      const wanted = channelFromQuery(queryOf(request));
      const channel = await authorizer.openChannel(request.get('principal'), wanted);
      return request.json({ features: await readFeatures(reads(request), channel) }, 200);
    },
  );

  app.openapi(
    createRoute({
      method: 'get',
      path: '/api/features/{id}',
      operationId: 'getFeature',
      summary: 'A feature in one environment, with its rules, schedules and open requests',
      security: bearerSecurity,
      middleware: admit,
      request: { params: idParameter, query: environmentQuery },
      responses: {
        200: jsonAnswer(
          'The feature',
          z
            .object({
              project_id: z.string(),
              environment: place,
              feature: featureSchema,
              rules: z.array(z.record(z.string(), z.unknown())),
              schedules: z.array(z.record(z.string(), z.unknown())),
              pending_changes: z
                .array(openChangeSchema)
                .openapi({ description: 'Those about this feature, in every environment, newest first' }),
            })
            .openapi('FeatureDetails'),
        ),
        ...commonRefusals,
        ...missingRefusal,
      },
    }),
    async (request) => {
      const featureId = featureIdOf(request.req.valid('param').id);
      const pool = reads(request);
      const projectId = await projectOf(pool, featureId);
      const rights = await authorization.rightsOf(request.get('principal').user.id, projectId);
      rights.require(projectId, 'project.view');
      const [details, pendingChanges] = await Promise.all([
        readFeatureDetails(pool, featureId, request.req.valid('query').env),
        readOpenChanges(pool, rights, { projectIds: [projectId], featureId }),
      ]);
      if (!rights.mayView(projectId, details.environment.id)) throw unknownEnvironment();
      return answerJson(request, { project_id: projectId, ...details, pending_changes: pendingChanges }, 200);
    },
  );

  app.openapi(
    createRoute({
      method: 'post',
      path: '/api/features',
      operationId: 'createFeature',
      summary: 'Makes a feature, switched off in every environment',
      security: bearerSecurity,
      middleware: [admit, writable] as const,
      request: { body: { required: true, content: { 'application/json': { schema: createBody } } } },
      responses: {
        201: jsonAnswer(
          'Made',
          z
            .object({ id: z.string(), environments: z.array(place.extend({ feature: featureSchema })) })
            .openapi('CreatedFeature'),
        ),
        409: jsonAnswer('key_taken, database_refused', errorSchema),
        ...writeRefusals,
      },
    }),
    async (request) => {
      const body = request.req.valid('json');
      const created = await features(request).create(request.get('principal').user.id, {
        projectId: body.project_id.toLowerCase(),
        key: body.key,
        name: body.name,
        description: body.description,
        kind: body.kind,
        rolloutKey: body.rollout_key,
        defaultValue: body.default_value,
      });
      const environments = created.environments.map(({ id, key, name, feature }) => ({
        id,
        key,
        name,
        feature,
      }));
      return request.json({ id: created.id, environments }, 201);
    },
  );

  app.openapi(
    createRoute({
      method: 'patch',
      path: '/api/features/{id}',
      operationId: 'updateFeature',
      summary: 'Changes some fields, or asks for it where the environment or the feature is guarded',
      description:
        'enabled and default_value are those of the environment env; the other fields show in every environment. Where the environment is guarded, or the feature by its tag guarded, a reason is needed. The rollout key counts in every environment: where any is guarded, it waits there.',
      security: bearerSecurity,
      middleware: [admit, writable] as const,
      request: {
        params: idParameter,
        body: { required: true, content: { 'application/json': { schema: updateBody } } },
      },
      responses: {
        200: jsonAnswer(
          'Changed: the feature as it is now',
          z.object({ feature: featureSchema }).openapi('ChangedFeature'),
        ),
        202: requestedAnswer,
        409: writeConflict,
        ...writeRefusals,
      },
    }),
    async (request) => {
      const featureId = featureIdOf(request.req.valid('param').id);
      const { env, version, reason, ...wanted } = request.req.valid('json');
      const userId = request.get('principal').user.id;
      const outcome = await features(request).update(userId, featureId, wanted, {
        environmentKey: env,
        version,
        reason,
      });
      if ('requested' in outcome)
        return answerJson(request, await requestedBy(reads(request), userId, outcome), 202);
      if (outcome.feature === null) throw unknownFeature();
      return request.json({ feature: outcome.feature }, 200);
    },
  );

  app.openapi(
    createRoute({
      method: 'delete',
      path: '/api/features/{id}',
      operationId: 'deleteFeature',
      summary:
        'Deletes a feature everywhere, or asks for it where an environment of its project, or the feature, is guarded',
      security: bearerSecurity,
      middleware: [admit, writable] as const,
      request: {
        params: idParameter,
        body: { required: true, content: { 'application/json': { schema: deleteBody } } },
      },
      responses: {
        200: jsonAnswer('Deleted', z.object({ feature: z.null() }).openapi('DeletedFeature')),
        202: requestedAnswer,
        409: writeConflict,
        ...writeRefusals,
      },
    }),
    async (request) => {
      const featureId = featureIdOf(request.req.valid('param').id);
      const { env, version, reason } = request.req.valid('json');
      const userId = request.get('principal').user.id;
      const outcome = await features(request).remove(userId, featureId, {
        environmentKey: env,
        version,
        reason,
      });
      if ('requested' in outcome)
        return answerJson(request, await requestedBy(reads(request), userId, outcome), 202);
      return request.json({ feature: null }, 200);
    },
  );

  /** The request as the pages of approvals show it; null where somebody has decided on it already. */
  async function requestedBy(
    pool: SessionSource,
    userId: string,
    { requested }: Extract<WriteOutcome, { requested: unknown }>,
  ): Promise<{ pending_change: OpenChange | null }> {
    const { projectId, pendingChangeId } = requested;
    const rights = await authorization.rightsOf(userId, projectId);
    const [change] = await readOpenChanges(pool, rights, {
      projectIds: [projectId],
      pendingChangeId,
    });
    return { pending_change: change ?? null };
  }
}

function featureIdOf(text: string): string {
  if (!isUuid(text)) throw unknownFeature();
  return text.toLowerCase();
}
