import { randomUUID } from 'node:crypto';
import { createServer, type IncomingMessage, type Server } from 'node:http';
import express from 'express';
import { type AuthenticatedUser, type AuthorizedChannel, createFlagcast } from 'flagcast';

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

const sessions = new Map<string, AuthenticatedUser>();

function sessionOf({ headers }: IncomingMessage): string {
  return /(?:^|;\s*)session=([\w-]+)/.exec(headers.cookie ?? '')?.[1] ?? '';
}

export function createHost(databaseUrl: string): { server: Server; close: () => Promise<void> } {
  const flagcast = createFlagcast({
    database: { url: databaseUrl },
    auth: { authenticate: (request) => Promise.resolve(sessions.get(sessionOf(request)) ?? null), authorize },
  });

  const app = express();
  // Before anything that reads bodies.
  app.use(flagcast.middleware);
  app.use(express.json());
  app.post('/login', (request, response) => {
    // Yours checks a password.
    const { name } = request.body as { name: string };
    const session = randomUUID();
    sessions.set(session, { id: name, username: name, expiresAtMs: Date.now() + 3_600_000 });
    response.cookie('session', session, { httpOnly: true, sameSite: 'strict' }).json({ name });
  });

  const server = createServer(app);
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
