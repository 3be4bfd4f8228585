import { createRoute, type z } from '@hono/zod-openapi';
import type { Queries } from '../postgres/session-pool.js';
import { bearerSecurity, commonRefusals, jsonAnswer, missingRefusal } from './answers.js';
import type { RestApp, RestContext } from './rest.js';
import { errorSchema, loginBody, meSchema, signedInSchema, modeSchema } from './schemas.js';

/** How people sign in, and who somebody is. */
export function addAuthRoutes(app: RestApp, context: RestContext): void {
  const { authorization, sessions, signIn, clientAddress, server, writes, demoPeople, guarantee, admit } =
    context;
  const { decisionPassword } = context;
  const mode = async (): Promise<z.infer<typeof modeSchema>> => ({
    sign_in: await signIn.mode(),
    demo_people: demoPeople.map(({ username, password, about }) => ({ username, password, about })),
    server,
    ...(guarantee() ?? { guarantee: null, guarantee_reason: null, overlap_ms: null }),
  });

  app.openapi(
    createRoute({
      method: 'get',
      path: '/api/auth/mode',
      operationId: 'getMode',
      summary: 'What this server is, and how people sign in; needs no token',
      responses: { 200: jsonAnswer('What a sign-in page shows', modeSchema), 403: commonRefusals[403] },
    }),
    async (request) => request.json(await mode(), 200),
  );

  app.openapi(
    createRoute({
      method: 'post',
      path: '/api/auth/login',
      operationId: 'login',
      summary: 'A token for a user name and a password',
      request: { body: { required: true, content: { 'application/json': { schema: loginBody } } } },
      responses: {
        200: jsonAnswer('Signed in', signedInSchema),
        400: commonRefusals[400],
        401: jsonAnswer('invalid_login: the name or the password is wrong', errorSchema),
        403: jsonAnswer('user_inactive, origin_forbidden', errorSchema),
        404: jsonAnswer(
          'login_elsewhere: tokens come from another service, or the passwords cannot be checked here',
          errorSchema,
        ),
        429: jsonAnswer('too_many_attempts: wait for Retry-After seconds', errorSchema),
        503: commonRefusals[503],
      },
    }),
    async (request) => {
      const { username, password } = request.req.valid('json');
      const address = clientAddress(request.env.incoming);
      return request.json(await signIn.signIn(username, password, address), 200);
    },
  );

  app.openapi(
    createRoute({
      method: 'get',
      path: '/api/auth/me',
      operationId: 'getMe',
      summary: 'Who has signed in, and what they may do',
      security: bearerSecurity,
      middleware: admit,
      responses: {
        200: jsonAnswer('The user', meSchema),
        401: commonRefusals[401],
        403: commonRefusals[403],
        503: commonRefusals[503],
        ...missingRefusal,
      },
    }),
    async (request) => {
      const { user, expiresAtMs } = request.get('principal');
      const [rights, projects, what, decisions] = await Promise.all([
        authorization.rightsOf(user.id),
        authorization.visibleProjects(user.id),
        mode(),
        writes ? decisionPassword.mode(user.id) : ('elsewhere' as const),
      ]);
      const everything = rights.superuser ? await readPermissionKeys(sessions.authorization) : null;
      return request.json(
        {
          user: { id: user.id, username: user.username, is_superuser: user.superuser },
          token_expires_at: new Date(expiresAtMs).toISOString(),
          projects: projects.map(({ id, name }) => ({
            id,
            name,
            permissions: [...(everything ?? rights.granted(id))],
          })),
          writes,
          decisions,
          ...what,
        },
        200,
      );
    },
  );
}

async function readPermissionKeys(pool: Queries): Promise<string[]> {
  const { rows } = await pool.query<{ key: string }>(
    'SELECT key::text AS key FROM public.permissions ORDER BY key',
  );
  return rows.map(({ key }) => key);
}
