import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { RunningCommand } from './command.js';
import { createTestDatabase, insertAudit, seedProject, type TestDatabase } from './database.js';
import { hasNatsServer, startNats, type TestNats } from './nats-server.js';
import { PlainClient } from './plain-client.js';
import { createUser, testSecret } from './server.js';

/** 3 s are promised; a busy machine gets some more. */
const takeoverLimitMs = 6_000;

describe.skipIf(!hasNatsServer)('a server that follows, when the one that reads', () => {
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

  it('is killed or stopped, takes its place or reads for itself: nothing is lost, and nothing is late for long', async () => {
    const { projectId, environments } = await seedProject(database.pool);
    const channel = { projectId, environmentId: environments.prod };
    const { token } = await createUser(database.pool, 'somebody', { superuser: true });
    const reader = await serve('relay_elected');
    const follower = await serve('relay_following');
    const { url } = await follower.logged('server_listening');
    const query = { project_id: projectId, env_id: environments.prod };
    const wsUrl = `${String(url).replace('http', 'ws')}/api/ws`;
    const client = await PlainClient.connect(wsUrl, query, { token });
    const written: string[] = [];
    const write = async (): Promise<number> => {
      const startedAtMs = performance.now();
      const { entityId } = await insertAudit(database.pool, channel);
      written.push(entityId);
      await client.received((message) => message.entity_id === entityId);
      return performance.now() - startedAtMs;
    };
    await write();

    reader.signal('SIGSTOP');
    expect(await write()).toBeLessThan(takeoverLimitMs);
    await follower.logged('relay_direct');
    reader.signal('SIGCONT');
    await follower.line(
      (line) => line.includes('relay_following') && follower.stdout.split('relay_following').length > 2,
    );
    await write();

    reader.signal('SIGKILL');
    expect(await write()).toBeLessThan(takeoverLimitMs);
    expect(await follower.logged('relay_elected')).toMatchObject({ continues: true });
    await write();
    expect(client.messages.map((message) => message.entity_id)).toEqual(written);
    expect(follower.stdout).not.toContain('secret@');
    await client.close();
  });
});
