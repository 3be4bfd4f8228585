import { createRoute, z, type Queries } from 'flagcast/support';
import type { RestApp, RestContext } from './rest.js';
import * as schemas from './schemas.js';

const loginBody = z
  .strictObject({ username: schemas.usernameField, password: schemas.passwordField })
  .openapi('Login');

/** Sign-in, and what the signed-in user may do. */
export function addAuthRoutes(app: RestApp, context: RestContext): void {
  const { demoUsers, signIn } = context;
  const readMode: ReadMode = async () => ({
    sign_in: await signIn.mode(),
    demo_people: demoUsers.map(({ username, password, about }) => ({ username, password, about })),
    server: context.server,
    ...(context.guarantee() ?? { guarantee: null, guarantee_reason: null, overlap_ms: null }),
  });

  app.openapi(
    createRoute({
      method: 'get',
      path: '/api/auth/mode',
      operationId: 'getMode',
      summary: 'What this server is, and how people sign in; needs no token',
      responses: {
        200: schemas.jsonResponse('What a sign-in page shows', schemas.modeSchema),
        403: schemas.commonRefusals[403],
      },
    }),
    async (request) => request.json(await readMode(), 200),
  );

  app.openapi(
    createRoute({
      method: 'post',
      path: '/api/auth/login',
      operationId: 'login',
      summary: 'A token for a user name and a password',
      request: { body: schemas.jsonBody(loginBody) },
      responses: {
        200: schemas.jsonResponse('Signed in', schemas.signedInSchema),
        400: schemas.commonRefusals[400],
        401: schemas.errorResponse('invalid_login: the name or the password is wrong'),
        403: schemas.errorResponse('user_inactive, origin_forbidden'),
        404: schemas.errorResponse(
          'login_elsewhere: tokens come from another service, or the passwords cannot be checked here',
        ),
        429: schemas.errorResponse('too_many_attempts: wait for Retry-After seconds'),
        503: schemas.commonRefusals[503],
      },
    }),
    async (request) => {
      const { username, password } = request.req.valid('json');
      const address = context.clientAddress(request.env.incoming);
      return request.json(await signIn.signIn(username, password, address), 200);
    },
  );
  addMe(app, context, readMode);
}

type ReadMode = () => Promise<z.output<typeof schemas.modeSchema>>;

function addMe(app: RestApp, context: RestContext, readMode: ReadMode): void {
  const { authorization, decisionPassword, sessions, writes } = context;
  app.openapi(
    createRoute({
      method: 'get',
      path: '/api/auth/me',
      operationId: 'getMe',
      summary: 'The signed-in user with their permissions',
      ...context.signedIn,
      responses: {
        200: schemas.jsonResponse('The user', schemas.meSchema),
        401: schemas.commonRefusals[401],
        403: schemas.commonRefusals[403],
        503: schemas.commonRefusals[503],
        ...schemas.missingRefusal,
      },
    }),
    async (request) => {
      const { user, expiresAtMs } = request.get('principal');
      const [rights, projects, mode, decisions] = await Promise.all([
        authorization.rightsOf(user.id),
        authorization.visibleProjects(user.id),
        readMode(),
        writes ? decisionPassword.mode(user.id) : ('elsewhere' as const),
      ]);
      const allPermissions = rights.superuser ? await readPermissionKeys(sessions.authorization) : null;
      return request.json(
        {
          user: { id: user.id, username: user.username, is_superuser: user.superuser },
          token_expires_at: new Date(expiresAtMs).toISOString(),
          projects: projects.map(({ id, name }) => ({
            id,
            name,
            permissions: [...(allPermissions ?? rights.granted(id))],
          })),
          writes,
          decisions,
          ...mode,
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
