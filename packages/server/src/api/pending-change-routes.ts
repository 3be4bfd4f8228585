import { createRoute, z } from '@hono/zod-openapi';
import type { MiddlewareHandler } from 'hono';
import { HttpProblem } from '../http-problem.js';
import { maxOpenChanges, readOpenChanges } from './pending-change-reads.js';
import {
  answerJson,
  bearerSecurity,
  commonRefusals,
  heavyRefusal,
  isUuid,
  jsonAnswer,
  missingRefusal,
  writeRefusals,
} from './answers.js';
import type { RestApp, RestContext, RestEnv } from './rest.js';
import {
  approveBody,
  decidedSchema,
  decisionSchema,
  errorSchema,
  idParameter,
  openChangeSchema,
  projectQuery,
  rejectBody,
} from './schemas.js';

const decidedAnswers = {
  200: jsonAnswer('Decided', decisionSchema),
  409: jsonAnswer(
    'already_decided (with status, by and at), conflict (with conflicts; nothing was changed), unsupported_change, database_refused',
    decidedSchema,
  ),
  ...writeRefusals,
} as const;

/** Of a decision that may ask for the user's password. */
const provenAnswers = {
  ...decidedAnswers,
  403: jsonAnswer(
    "forbidden, own_change; in Togglr's database password_required, password_wrong, decide_elsewhere (see decisions of /api/auth/me)",
    errorSchema,
  ),
  429: jsonAnswer('too_many_attempts: wait for Retry-After seconds', errorSchema),
} as const;

/** Requests that wait for an approval, and the decisions on them. */
export function addPendingChangeRoutes(app: RestApp, context: RestContext): void {
  const { authorization, reads, decisions, decisionPassword, clientAddress, admit, bounded, writable } =
    context;

  app.openapi(
    createRoute({
      method: 'get',
      path: '/api/pending-changes',
      operationId: 'listPendingChanges',
      summary: 'All open requests that the user may see, over all environments, newest first',
      security: bearerSecurity,
      middleware: [admit, bounded] as const,
      request: { query: projectQuery },
      responses: {
        200: jsonAnswer(
          `The newest ${maxOpenChanges} at the most`,
          z.object({ pending_changes: z.array(openChangeSchema) }).openapi('PendingChanges'),
        ),
        ...commonRefusals,
        ...heavyRefusal,
        ...missingRefusal,
      },
    }),
    async (request) => {
      const { user } = request.get('principal');
      const { project_id: projectId } = request.req.valid('query');
      const [rights, projects] = await Promise.all([
        authorization.rightsOf(user.id),
        authorization.visibleProjects(user.id),
      ]);
      const ids = projects.map(({ id }) => id);
      const wanted = projectId === undefined ? ids : ids.filter((id) => id === projectId.toLowerCase());
      if (projectId !== undefined && wanted.length === 0) {
        throw new HttpProblem(
          404,
          'unknown_project',
          'There is no project with this project_id that you may see',
        );
      }
      return answerJson(
        request,
        { pending_changes: await readOpenChanges(reads(request), rights, { projectIds: wanted }) },
        200,
      );
    },
  );

  app.openapi(
    createRoute({
      method: 'post',
      path: '/api/pending-changes/{id}/approve',
      operationId: 'approvePendingChange',
      summary: 'Does what was asked for, in the name of whoever approves',
      security: bearerSecurity,
      middleware: [admit, writable, dropTypeOfNoBody] as const,
      request: {
        params: idParameter,
        body: { content: { 'application/json': { schema: approveBody } } },
      },
      responses: provenAnswers,
    }),
    async (request) => {
      const id = changeIdOf(request.req.valid('param').id);
      const { password } = request.req.valid('json');
      const { user } = request.get('principal');
      await decisionPassword.require(user, password, clientAddress(request.env.incoming));
      return request.json(await decisions(request).approve(user.id, id), 200);
    },
  );

  app.openapi(
    createRoute({
      method: 'post',
      path: '/api/pending-changes/{id}/reject',
      operationId: 'rejectPendingChange',
      summary: 'Refuses what was asked for, with a reason',
      security: bearerSecurity,
      middleware: [admit, writable] as const,
      request: {
        params: idParameter,
        body: { required: true, content: { 'application/json': { schema: rejectBody } } },
      },
      responses: provenAnswers,
    }),
    async (request) => {
      const id = changeIdOf(request.req.valid('param').id);
      const { reason, password } = request.req.valid('json');
      const { user } = request.get('principal');
      await decisionPassword.require(user, password, clientAddress(request.env.incoming));
      return request.json(await decisions(request).reject(user.id, id, reason), 200);
    },
  );

  app.openapi(
    createRoute({
      method: 'post',
      path: '/api/pending-changes/{id}/cancel',
      operationId: 'cancelPendingChange',
      summary: "Takes one's own request back",
      security: bearerSecurity,
      middleware: [admit, writable] as const,
      request: { params: idParameter },
      responses: decidedAnswers,
    }),
    async (request) => {
      const id = changeIdOf(request.req.valid('param').id);
      return request.json(await decisions(request).cancel(request.get('principal').user.id, id), 200);
    },
  );
}

/** Programs name the type of a body that they do not send. */
const dropTypeOfNoBody: MiddlewareHandler<RestEnv> = async (request, next) => {
  if (request.req.header('content-length') === '0') request.req.raw.headers.delete('content-type');
  await next();
};

function changeIdOf(text: string): string {
  if (isUuid(text)) return text.toLowerCase();
  throw new HttpProblem(404, 'unknown_change', 'There is no such pending change');
}
