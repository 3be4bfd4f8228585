import { createRoute, z } from '@hono/zod-openapi';
import type { Context } from 'hono';
import { HttpProblem } from '../http-problem.js';
import { maxOpenChanges, readOpenChanges } from './pending-change-reads.js';
import { sendJson } from './responses.js';
import type { RestApp, RestContext, RestEnv } from './rest.js';
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
  })
  .openapi('DecisionConflict');

const decisionPassword = schemas.passwordField
  .optional()
  .describe('The password of the user, where decisions of /api/auth/me says password');

const approveBody = z.strictObject({ password: decisionPassword }).openapi('Approval');
const rejectBody = z
  .strictObject({ reason: schemas.reasonField, password: decisionPassword })
  .openapi('Rejection');

const decisionResponses = {
  200: schemas.jsonResponse('Decided', schemas.decisionSchema),
  409: schemas.jsonResponse(
    'already_decided (with status, by and at), conflict (with conflicts; nothing was changed), unsupported_change, database_refused',
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
  addOpenChanges(app, context);
  addDecisions(app, context);
}

function addOpenChanges(app: RestApp, { authorization, boundedRead, reads }: RestContext): void {
  app.openapi(
    createRoute({
      method: 'get',
      path: '/api/pending-changes',
      operationId: 'listPendingChanges',
      summary: 'All open requests that the user may see, over all environments, newest first',
      ...boundedRead,
      request: { query: z.object({ project_id: schemas.uuidField.optional() }) },
      responses: {
        200: schemas.jsonResponse(
          `The newest ${maxOpenChanges} at the most`,
          z.object({ pending_changes: z.array(schemas.openChangeSchema) }).openapi('PendingChanges'),
        ),
        ...schemas.commonRefusals,
        ...schemas.heavyRefusal,
        ...schemas.missingRefusal,
      },
    }),
    async (request) => {
      const { user } = request.get('principal');
      const wantedId = request.req.valid('query').project_id?.toLowerCase();
      const [rights, projects] = await Promise.all([
        authorization.rightsOf(user.id),
        authorization.visibleProjects(user.id),
      ]);
      const visibleIds = projects.map((project) => project.id);
      const projectIds = visibleIds.filter((visibleId) => wantedId === undefined || visibleId === wantedId);
      if (wantedId !== undefined && projectIds.length === 0) {
        throw new HttpProblem('unknown_project', 'There is no project with this project_id that you may see');
      }
      const pendingChanges = await readOpenChanges(reads(request), rights, { projectIds });
      return sendJson(request, { pending_changes: pendingChanges }, 200);
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

  // Programs send the type of a body without a body.
  app.use('/api/pending-changes/:id/approve', async ({ req }, next) => {
    if (req.header('content-length') === '0') req.raw.headers.delete('content-type');
    await next();
  });
  app.openapi(
    createRoute({
      method: 'post',
      path: '/api/pending-changes/{id}/approve',
      operationId: 'approvePendingChange',
      summary: 'Applies the requested change in the name of the approver',
      ...write,
      request: { params: schemas.idParameter, body: { content: schemas.jsonBody(approveBody).content } },
      responses: passwordResponses,
    }),
    async (request) => {
      const decision = decisionOf(request);
      const { password } = request.req.valid('json');
      await requirePassword(request, password);
      return request.json(await approve(writeSessions(request), decision), 200);
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
      const { reason, password } = request.req.valid('json');
      await requirePassword(request, password);
      return request.json(await reject(writeSessions(request), decision, reason), 200);
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
