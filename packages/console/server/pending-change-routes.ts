import { createRoute, z, HttpProblem, sendJson, type Rights } from 'flagcast/support';
import type { Context } from 'hono';
import { maxPendingChanges, parsePageKey, readPendingChanges, readSteps } from './pending-change-reads.js';
import type { RestApp, RestContext, RestEnv } from './rest.js';
import { openChangeSchema, requestDetailSchema } from './request-schemas.js';
import * as schemas from './schemas.js';
import { approve, cancel, reject, unknownChange } from './writes/decisions.js';

const conflictSchema = z.object({
  entity: z.string(),
  entity_id: schemas.id,
  field: z.string(),
  old: schemas.anything,
  new: schemas.anything,
  current: schemas.anything,
});

const decidedSchema = schemas.errorSchema
  .extend({
    status: z.string().optional(),
    by: z.string().nullable().optional(),
    at: schemas.time.nullable().optional(),
    conflicts: z.array(conflictSchema).optional(),
    pending_change: openChangeSchema.optional().describe('With stale_request: the request as it is now'),
  })
  .openapi('DecisionConflict');

const decisionPassword = schemas.passwordField
  .optional()
  .describe('The password of the user, where decisions of /api/auth/me says password');

/** What the user has seen: anything else is refused with `stale_request`. */
const seen = {
  version: schemas.version.describe('The version of the request'),
  feature_versions: z
    .record(z.string(), schemas.version)
    .describe(
      'The feature_version of each entity of the request by its feature_id; without entities of no feature',
    ),
};

const approveBody = z.strictObject({ ...seen, password: decisionPassword }).openapi('Approval');
const rejectBody = z
  .strictObject({ ...seen, reason: schemas.reasonField, password: decisionPassword })
  .openapi('Rejection');

const decisionResponses = {
  200: schemas.jsonResponse('Decided', schemas.decisionSchema),
  409: schemas.jsonResponse(
    'already_decided (with status, by and at), stale_request (with pending_change), conflict (with conflicts; nothing was changed), unsupported_change, database_refused',
    decidedSchema,
  ),
  ...schemas.writeRefusals,
} as const;

/** Of a decision that may ask for the user's password. */
const passwordResponses = {
  ...decisionResponses,
  403: schemas.errorResponse(
    "forbidden, own_change; in Togglr's database password_required, password_wrong, decide_elsewhere (see decisions of /api/auth/me)",
  ),
  429: schemas.errorResponse('too_many_attempts: wait for Retry-After seconds'),
} as const;

/** Requests that wait for an approval, and the decisions on them. */
export function addPendingChangeRoutes(app: RestApp, context: RestContext): void {
  addList(app, context);
  addDetail(app, context);
  addDecisions(app, context);
}

const listQuery = z.object({
  state: schemas.textField(1, 255).default('open').openapi({
    description:
      'open (the default), decided, all, or a status: approved, rejected, cancelled, or another one of the host',
  }),
  project_id: schemas.uuidField.optional(),
  environment_id: schemas.textField(1, 20).optional(),
  feature_id: schemas.uuidField.optional(),
  username: schemas.usernameField.optional().openapi({ description: 'Who requested it, or decided on it' }),
  since: schemas.utcTime
    .optional()
    .openapi({ format: 'date-time', description: 'Only requested then or later' }),
  until: schemas.utcTime.optional().openapi({ format: 'date-time', description: 'Only requested before' }),
  before: schemas.pageStart(parsePageKey),
  limit: schemas.pageLimit({ most: maxPendingChanges, usual: maxPendingChanges }),
});

/** The user's rights, and the ids of the projects that the user may see. */
async function readScope(
  { authorization }: RestContext,
  request: Context<RestEnv>,
): Promise<{ readonly rights: Rights; readonly projectIds: string[] }> {
  const { user } = request.get('principal');
  const [rights, projects] = await Promise.all([
    authorization.rightsOf(user.id),
    authorization.visibleProjects(user.id),
  ]);
  return { rights, projectIds: projects.map((project) => project.id) };
}

function addList(app: RestApp, context: RestContext): void {
  const { boundedRead, reads } = context;
  app.openapi(
    createRoute({
      method: 'get',
      path: '/api/pending-changes',
      operationId: 'listPendingChanges',
      summary:
        'The requests that the user may see, over all environments, a page at a time: newest first, a list of decided ones by the time of the decision',
      ...boundedRead,
      request: { query: listQuery },
      responses: {
        200: schemas.jsonResponse(
          'A page',
          z
            .object({
              pending_changes: z.array(openChangeSchema),
              next: z
                .string()
                .nullable()
                .describe('The parameter before of the next page; null for the last one'),
            })
            .openapi('PendingChanges'),
        ),
        ...schemas.commonRefusals,
        ...schemas.heavyRefusal,
        ...schemas.missingRefusal,
      },
    }),
    async (request) => {
      const query = request.req.valid('query');
      const wantedId = query.project_id?.toLowerCase();
      const scope = await readScope(context, request);
      const projectIds = scope.projectIds.filter((id) => wantedId === undefined || id === wantedId);
      if (wantedId !== undefined && projectIds.length === 0) {
        throw new HttpProblem('unknown_project', 'There is no project with this project_id that you may see');
      }
      const { changes, next } = await readPendingChanges(reads(request), scope.rights, {
        projectIds,
        state: query.state,
        environmentId: query.environment_id,
        featureId: query.feature_id,
        username: query.username,
        since: query.since,
        until: query.until,
        before: query.before === undefined ? null : parsePageKey(query.before),
        limit: query.limit,
      });
      return sendJson(request, { pending_changes: changes, next }, 200);
    },
  );
}

function addDetail(app: RestApp, context: RestContext): void {
  const { boundedRead, reads } = context;
  app.openapi(
    createRoute({
      method: 'get',
      path: '/api/pending-changes/{id}',
      operationId: 'getPendingChange',
      summary: 'A request, open or decided, with its steps',
      ...boundedRead,
      request: { params: schemas.idParameter },
      responses: {
        200: schemas.jsonResponse('The request', requestDetailSchema),
        ...schemas.commonRefusals,
        ...schemas.heavyRefusal,
        ...schemas.missingRefusal,
      },
    }),
    async (request) => {
      const changeId = request.req.param('id');
      if (!schemas.isUuid(changeId)) throw unknownChange();
      const { rights, projectIds } = await readScope(context, request);
      const pool = reads(request);
      const { changes } = await readPendingChanges(pool, rights, {
        projectIds,
        state: 'all',
        pendingChangeId: changeId.toLowerCase(),
      });
      const [change] = changes;
      if (change === undefined) throw unknownChange();
      return sendJson(request, { ...change, steps: await readSteps(pool, change) }, 200);
    },
  );
}

function addDecisions(app: RestApp, context: RestContext): void {
  const { clientAddress, write, writeSessions } = context;

  const decisionOf = (request: Context<RestEnv>): { userId: string; changeId: string } => {
    const changeId = request.req.param('id') ?? '';
    if (!schemas.isUuid(changeId)) throw unknownChange();
    return { userId: request.get('principal').user.id, changeId: changeId.toLowerCase() };
  };
  const requirePassword = async (request: Context<RestEnv>, password: string | undefined): Promise<void> => {
    const { user } = request.get('principal');
    await context.decisionPassword.require(user, password, clientAddress(request.env.incoming));
  };

  app.openapi(
    createRoute({
      method: 'post',
      path: '/api/pending-changes/{id}/approve',
      operationId: 'approvePendingChange',
      summary: 'Applies the requested change in the name of the approver',
      ...write,
      request: { params: schemas.idParameter, body: schemas.jsonBody(approveBody) },
      responses: passwordResponses,
    }),
    async (request) => {
      const decision = decisionOf(request);
      const { password, version, feature_versions: featureVersions } = request.req.valid('json');
      await requirePassword(request, password);
      const seenByUser = { version, featureVersions };
      return request.json(await approve(writeSessions(request), decision, seenByUser), 200);
    },
  );

  app.openapi(
    createRoute({
      method: 'post',
      path: '/api/pending-changes/{id}/reject',
      operationId: 'rejectPendingChange',
      summary: 'Rejects the requested change, with a reason',
      ...write,
      request: { params: schemas.idParameter, body: schemas.jsonBody(rejectBody) },
      responses: passwordResponses,
    }),
    async (request) => {
      const decision = decisionOf(request);
      const { reason, password, version, feature_versions: featureVersions } = request.req.valid('json');
      await requirePassword(request, password);
      const seenByUser = { version, featureVersions };
      return request.json(await reject(writeSessions(request), { ...decision, reason }, seenByUser), 200);
    },
  );

  app.openapi(
    createRoute({
      method: 'post',
      path: '/api/pending-changes/{id}/cancel',
      operationId: 'cancelPendingChange',
      summary: 'Withdraws an own request',
      ...write,
      request: { params: schemas.idParameter },
      responses: decisionResponses,
    }),
    async (request) => {
      return request.json(await cancel(writeSessions(request), decisionOf(request)), 200);
    },
  );
}
