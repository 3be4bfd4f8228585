import Fastify, { type FastifyInstance } from 'fastify';
import { type AuthorizedChannel, createFlagcast } from 'flagcast';

/** Who is on which team; yours is wherever you keep it. */
const teams = new Map([
  ['ada', ['shop']],
  ['bob', ['billing']],
]);

function authorize(userIds: readonly string[]): Promise<AuthorizedChannel[]> {
  const channels = userIds.flatMap((userId) =>
    (teams.get(userId) ?? []).map((team) => ({
      userId,
      projectId: team,
      environmentId: `${team}-live`,
      environmentKey: 'prod',
    })),
  );
  return Promise.resolve(channels);
}

export function createHost(databaseUrl: string, secret: string): FastifyInstance {
  const flagcast = createFlagcast({ database: { url: databaseUrl }, auth: { secret, authorize } });

  const app = Fastify();
  app.addHook('onRequest', (request, reply, next) => {
    if (!flagcast.handles(request.raw)) {
      next();
      return;
    }
    reply.hijack();
    flagcast.requestListener(request.raw, reply.raw);
  });
  app.get('/', () => 'The host');
  app.addHook('preClose', async () => await flagcast.close());

  flagcast.attach(app.server);
  void flagcast.ready();
  return app;
}
