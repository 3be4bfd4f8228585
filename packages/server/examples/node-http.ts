import { createServer, type Server } from 'node:http';
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

export function createHost(
  databaseUrl: string,
  secret: string,
): { server: Server; close: () => Promise<void> } {
  const flagcast = createFlagcast({ database: { url: databaseUrl }, auth: { secret, authorize } });
  const server = createServer((request, response) => {
    if (request.url === '/') response.end('The host');
    else if (flagcast.handles(request)) flagcast.requestListener(request, response);
    else response.writeHead(404).end('The host has no such page');
  });
  flagcast.attach(server);
  void flagcast.ready();
  return {
    server,
    close: async () => {
      const closed = new Promise((resolve) => server.close(resolve));
      await flagcast.close();
      server.closeIdleConnections();
      await closed;
    },
  };
}
