import { createRoute, z } from '@hono/zod-openapi';
import { parsePageKey, searchAudit } from './audit-search.js';
import { sendJson } from './responses.js';
import type { RestApp, RestContext } from './rest.js';
import * as schemas from './schemas.js';

const maxPage = 200;

const utcTime = z.iso
  .datetime({ error: 'must be a time in UTC, such as 2026-01-31T12:00:00Z' })
  .refine((value) => !value.startsWith('0000'), 'must be in the year 1 or later');

const auditQuery = z.object({
  before: z
    .string({ error: 'must be given once' })
    .refine((value) => parsePageKey(value) !== null, 'must be the value of "next" from the previous page')
    .optional(),
  limit: z
    .string({ error: 'must be given once' })
    .refine(
      (value) => /^\d{1,4}$/.test(value) && Number(value) >= 1 && Number(value) <= maxPage,
      `must be a whole number from 1 to ${maxPage}`,
    )
    .transform(Number)
    .default(50)
    .openapi({
      type: 'integer',
      minimum: 1,
      maximum: maxPage,
      description: 'How many entries at the most; those of one step of a request count as one',
    }),
  entity: schemas.textField(1, 50).optional(),
  action: schemas.textField(1, 50).optional(),
  username: schemas.usernameField.optional(),
  feature_id: schemas.uuidField.optional(),
  since: utcTime.optional().openapi({ format: 'date-time', description: 'Only what happened then or later' }),
  until: utcTime.optional().openapi({ format: 'date-time', description: 'Only what happened before' }),
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
