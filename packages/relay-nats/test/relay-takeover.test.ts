import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { RunningCommand } from '../../server/test/command.js';
import {
  createTestDatabase,
  insertAudit,
  seedProject,
  type TestDatabase,
} from '../../server/test/database.js';
import { hasNatsServer, startNats, type TestNats } from '../../../testing/testkit/nats-server.ts';
import { PlainClient } from '../../server/test/plain-client.js';
import { createUser, testSecret } from '../../server/test/server.js';

describe.skipIf(!hasNatsServer)('a follower', () => {
  let nats: TestNats;
  let database: TestDatabase;
  const commands: RunningCommand[] = [];
  beforeAll(async () => {
    nats = await startNats();
  });
  afterAll(async () => {
    await nats.remove();
  });
  beforeEach(async () => {
    database = await createTestDatabase({ schema: 'tables' });
  });
  afterEach(async () => {
    await Promise.all(commands.splice(0).map(async (command) => await command.end()));
    await database.drop();
  });

  async function serve(role: 'relay_elected' | 'relay_following'): Promise<RunningCommand> {
    const command = new RunningCommand(['serve', '--port', '0', '--poll-interval', '100ms'], {
      env: {
        DATABASE_URL: database.url,
        FLAGCAST_JWT_SECRET: testSecret,
        FLAGCAST_RELAY_URL: nats.url,
      },
    });
    commands.push(command);
    await command.logged(role);
    return command;
  }

  interface Pair {
    readonly reader: RunningCommand;
    readonly follower: RunningCommand;
    /** Writes an event, and waits until the client of that server has received it. */
    readonly write: (watched: RunningCommand) => Promise<void>;
    /** The clients of these servers have received every event once and in order. */
    readonly expectAll: (watched: readonly RunningCommand[]) => Promise<void>;
  }

  /** Two servers with a client each, which have received one event. */
  async function pair(): Promise<Pair> {
    const { projectId, environments } = await seedProject(database.pool);
    const channel = { projectId, environmentId: environments.prod };
    const { token } = await createUser(database.pool, 'viewer', { superuser: true });
    const query = { project_id: projectId, env_id: environments.prod };
    const clients = new Map<RunningCommand, PlainClient>();
    const written: string[] = [];
    const has = async (watched: RunningCommand, entityId: string): Promise<void> => {
      await clients.get(watched)?.received((message) => message.entity_id === entityId);
    };
    const reader = await serve('relay_elected');
    const follower = await serve('relay_following');
    for (const command of [reader, follower]) {
      const { url } = await command.logged('server_listening');
      const wsUrl = `${String(url).replace('http', 'ws')}/api/ws`;
      clients.set(command, await PlainClient.connect(wsUrl, query, { token }));
    }
    const write: Pair['write'] = async (watched) => {
      const { entityId } = await insertAudit(database.pool, channel);
      written.push(entityId);
      await has(watched, entityId);
    };
    await write(follower);
    return {
      reader,
      follower,
      write,
      async expectAll(watched) {
        for (const command of watched) {
          await has(command, written.at(-1) ?? '');
          expect(clients.get(command)?.messages.map((message) => message.entity_id)).toEqual(written);
          expect(command.stdout).not.toContain('secret@');
        }
      },
    };
  }

  it('takes over from a leader that is killed: no event is lost', async () => {
    const { reader, follower, write, expectAll } = await pair();
    reader.signal('SIGKILL');
    await write(follower);
    expect(await follower.logged('relay_elected')).toMatchObject({ continues: true });
    await write(follower);
    await expectAll([follower]);
  });

  it.each([
    ['', false],
    // When it continues, it considers NATS lost, and the follower may be elected.
    [' while a response of NATS is missing', true],
  ])(
    'reads the database while the leader is stopped%s, and shares the reader again afterwards: no event is lost',
    async (_, owes) => {
      const { reader, follower, write, expectAll } = await pair();
      if (owes) {
        nats.signal('SIGSTOP');
        await write(reader);
      }
      reader.signal('SIGSTOP');
      nats.signal('SIGCONT');
      await write(follower);
      await follower.logged('relay_direct');
      reader.signal('SIGCONT');
      await follower.line(
        (line) =>
          line.includes('relay_elected') ||
          (line.includes('relay_following') && follower.stdout.split('relay_following').length > 2),
      );
      await write(follower);
      await expectAll([reader, follower]);
    },
  );
});
