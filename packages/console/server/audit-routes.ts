import { createRoute, z, HttpProblem, sendJson } from 'flagcast/support';
import type { Context } from 'hono';
import { addAuditExport } from './audit-export.js';
import { type Channels, countAudit, parsePageKey, searchAudit } from './audit-search.js';
import type { RestApp, RestContext, RestEnv } from './rest.js';
import * as schemas from './schemas.js';

const maxPage = 200;

const moment = (description: string) =>
  schemas.utcTime.optional().openapi({ format: 'date-time', description });

const filter = {
  projects: z
    .literal('all', { error: 'must be all' })
    .optional()
    .openapi({ description: 'Instead of project_id and env: all environments that the user may see' }),
  entity: schemas.textField(1, 50).optional(),
  action: schemas.textField(1, 50).optional(),
  username: schemas.usernameField.optional(),
  feature_id: schemas.uuidField.optional(),
  since: moment('Only what happened then or later'),
  until: moment('Only what happened before'),
};

const pageQuery = z.object({
  ...filter,
  before: schemas.pageStart(parsePageKey),
  limit: schemas.pageLimit({
    most: maxPage,
    usual: 50,
    description: 'How many entries at the most; those of one step of a request count as one',
  }),
});

const histogramQuery = z.object({
  ...filter,
  since: schemas.utcTime,
  until: schemas.utcTime,
  buckets: schemas.pageLimit({ most: 500, usual: 60, description: 'How many parts the time has' }),
});

/** What the routes of the history share. */
export interface AuditRoutes {
  readonly context: RestContext;
  readonly parameters: typeof parameters;
  readonly pageQuery: typeof pageQuery;
  readonly refusals: typeof refusals;
  /** The channels that the query string asks for. Throws HttpProblem if the user may not see the one it names. */
  readonly openChannels: (request: Context<RestEnv>) => Promise<Channels>;
}

const parameters = schemas.channelParameters.map((parameter) => ({ ...parameter, required: false }));
const refusals = { ...schemas.commonRefusals, ...schemas.heavyRefusal, ...schemas.missingRefusal } as const;

/** The history of an environment, or of all that the user may see. */
export function addAuditRoutes(app: RestApp, context: RestContext): void {
  const { authorization, boundedRead, openChannel, reads } = context;
  const openChannels: AuditRoutes['openChannels'] = async (request) => {
    const query = new URL(request.req.url).searchParams;
    if (!query.has('projects')) return [await openChannel(request)];
    if (schemas.channelParameters.some(({ name }) => query.has(name))) {
      throw new HttpProblem(
        'conflicting_parameters',
        'Give projects=all, or project_id and env, not both: all projects contain it',
      );
    }
    const projects = await authorization.visibleProjects(request.get('principal').user.id);
    return projects.flatMap(({ id: projectId, environments }) =>
      environments.map(({ id: environmentId }) => ({ projectId, environmentId })),
    );
  };

  app.openapi(
    createRoute({
      method: 'get',
      path: '/api/audit',
      operationId: 'listAudit',
      summary: 'The audit log and the steps of requests for changes, newest first, a page at a time',
      ...boundedRead,
      parameters,
      request: { query: pageQuery },
      responses: { 200: schemas.jsonResponse('A page', schemas.auditPageSchema), ...refusals },
    }),
    async (request) => {
      const channels = await openChannels(request);
      return sendJson(request, await searchAudit(reads(request), channels, request.req.valid('query')), 200);
    },
  );

  app.openapi(
    createRoute({
      method: 'get',
      path: '/api/audit/histogram',
      operationId: 'countAudit',
      summary: 'How many entries the history has in each part of a time',
      ...boundedRead,
      parameters,
      request: { query: histogramQuery },
      responses: { 200: schemas.jsonResponse('The counts', schemas.auditHistogramSchema), ...refusals },
    }),
    async (request) => {
      const channels = await openChannels(request);
      return sendJson(request, await countAudit(reads(request), channels, request.req.valid('query')), 200);
    },
  );

  addAuditExport(app, { context, parameters, pageQuery, refusals, openChannels });
}
