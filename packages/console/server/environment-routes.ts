import { createRoute, z } from 'flagcast/support';
import { unknownEnvironment } from './problems.js';
import type { RestApp, RestContext } from './rest.js';
import * as schemas from './schemas.js';
import { guardEnvironment } from './writes/guards.js';

const guardBody = z.strictObject({ guarded: z.boolean({ error: 'must be true or false' }) }).openapi('Guard');

/** Environments: whether they are guarded. */
export function addEnvironmentRoutes(app: RestApp, { write, writeSessions }: RestContext): void {
  app.openapi(
    createRoute({
      method: 'patch',
      path: '/api/environments/{id}',
      operationId: 'updateEnvironment',
      summary: 'Guards an environment, or removes its guard; for owners of the project',
      description:
        'Each change is in the history of the environment, with entity environment, and reaches its channel as an event. Requests that are open stay open.',
      ...write,
      request: {
        params: z.object({ id: z.string().describe('A number, as text') }),
        body: schemas.jsonBody(guardBody),
      },
      responses: {
        200: schemas.jsonResponse(
          'The environment as it is now',
          z.object({ environment: schemas.environmentSchema }).openapi('ChangedEnvironment'),
        ),
        ...schemas.writeRefusals,
      },
    }),
    async (request) => {
      const { id } = request.req.valid('param');
      // A text of another form is the number of no environment.
      if (!/^[1-9]\d{0,17}$/.test(id)) throw unknownEnvironment();
      const { guarded } = request.req.valid('json');
      const userId = request.get('principal').user.id;
      const environment = await guardEnvironment(writeSessions(request), { userId, id, guarded });
      return request.json({ environment }, 200);
    },
  );
}
