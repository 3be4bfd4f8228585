import { createRoute, z } from '@hono/zod-openapi';
import { unknownEnvironment } from './problem.js';
import { bearerSecurity, jsonAnswer, writeRefusals } from './answers.js';
import type { RestApp, RestContext } from './rest.js';
import { environmentSchema, guardBody } from './schemas.js';

/** Environments: whether they are guarded. */
export function addEnvironmentRoutes(app: RestApp, { guards, admit, writable }: RestContext): void {
  app.openapi(
    createRoute({
      method: 'patch',
      path: '/api/environments/{id}',
      operationId: 'updateEnvironment',
      summary: 'Guards an environment, or removes its guard; for owners of the project',
      description:
        'Each change is in the history of the environment, with entity environment, and reaches its channel as an event. Requests that are open stay open.',
      security: bearerSecurity,
      middleware: [admit, writable] as const,
      request: {
        params: z.object({ id: z.string().openapi({ description: 'A number, as text' }) }),
        body: { required: true, content: { 'application/json': { schema: guardBody } } },
      },
      responses: {
        200: jsonAnswer(
          'The environment as it is now',
          z.object({ environment: environmentSchema }).openapi('ChangedEnvironment'),
        ),
        ...writeRefusals,
      },
    }),
    async (request) => {
      const { id } = request.req.valid('param');
      // No other text is the number of an environment.
      if (!/^[1-9]\d{0,17}$/.test(id)) throw unknownEnvironment();
      const { guarded } = request.req.valid('json');
      const environment = await guards(request).set(request.get('principal').user.id, id, guarded);
      return request.json({ environment }, 200);
    },
  );
}
