import { createRoute, z } from '@hono/zod-openapi';
import { parsePageKey, searchAudit } from './audit-search.js';
import { sendJson } from './responses.js';
import type { RestApp, RestContext } from './rest.js';
import * as schemas from './schemas.js';

const maxPage = 200;

const auditQuery = z.object({
  before: schemas.pageStart(parsePageKey),
  limit: schemas.pageLimit({
    most: maxPage,
    usual: 50,
    description: 'How many entries at the most; those of one step of a request count as one',
  }),
  entity: schemas.textField(1, 50).optional(),
  action: schemas.textField(1, 50).optional(),
  username: schemas.usernameField.optional(),
  feature_id: schemas.uuidField.optional(),
  since: schemas.utcTime
    .optional()
    .openapi({ format: 'date-time', description: 'Only what happened then or later' }),
  until: schemas.utcTime
    .optional()
    .openapi({ format: 'date-time', description: 'Only what happened before' }),
});

/** The history of an environment. */
export function addAuditRoutes(app: RestApp, { boundedRead, openChannel, reads }: RestContext): void {
  app.openapi(
    createRoute({
      method: 'get',
      path: '/api/audit',
      operationId: 'listAudit',
      summary:
        'The history of an environment, newest first, a page at a time: the audit log, and the steps of requests for changes',
      ...boundedRead,
      parameters: schemas.channelParameters,
      request: { query: auditQuery },
      responses: {
        200: schemas.jsonResponse('A page', schemas.auditPageSchema),
        ...schemas.commonRefusals,
        ...schemas.heavyRefusal,
        ...schemas.missingRefusal,
      },
    }),
    async (request) => {
      const channel = await openChannel(request);
      const page = await searchAudit(reads(request), channel, request.req.valid('query'));
      return sendJson(request, page, 200);
    },
  );
}
