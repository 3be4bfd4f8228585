import { createRoute } from '@hono/zod-openapi';
import { channelFromQuery } from '../auth/request-target.js';
import { parseAuditPlace } from './audit-place.js';
import { AuditIndexSource } from './audit-index.js';
import { AuditSearch } from './audit-reads.js';
import {
  answerJson,
  bearerSecurity,
  commonRefusals,
  heavyRefusal,
  jsonAnswer,
  missingRefusal,
  queryOf,
} from './answers.js';
import type { RestApp, RestContext } from './rest.js';
import { auditPageSchema, auditQuery, channelParameters } from './schemas.js';

/** The history of an environment. */
export function addAuditRoutes(
  app: RestApp,
  { authorizer, sessions, reads, admit, bounded }: RestContext,
): void {
  const indexes = new AuditIndexSource(sessions.requests);
  app.openapi(
    createRoute({
      method: 'get',
      path: '/api/audit',
      operationId: 'listAudit',
      summary:
        'The history of an environment, newest first, a page at a time: the audit log, and the steps of requests for changes',
      security: bearerSecurity,
      middleware: [admit, bounded] as const,
      parameters: [...channelParameters],
      request: { query: auditQuery },
      responses: {
        200: jsonAnswer('A page', auditPageSchema),
        ...commonRefusals,
        ...heavyRefusal,
        ...missingRefusal,
      },
    }),
    async (request) => {
      const wanted = channelFromQuery(queryOf(request));
      const channel = await authorizer.openChannel(request.get('principal'), wanted);
      const query = request.req.valid('query');
      const page = await new AuditSearch(reads(request), indexes).read(channel, {
        before: query.before === undefined ? null : parseAuditPlace(query.before),
        limit: query.limit,
        entity: query.entity ?? null,
        action: query.action ?? null,
        username: query.username ?? null,
        featureId: query.feature_id ?? null,
        since: query.since ?? null,
        until: query.until ?? null,
      });
      return answerJson(request, page, 200);
    },
  );
}
