import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { createServer, get, type IncomingMessage } from 'node:http';
import { type AddressInfo, connect } from 'node:net';
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { WebSocket } from 'ws';
import { loadConfig } from '../src/cli/config.js';
import {
  createTestDatabase,
  createTestFolder,
  insertAudit,
  seedProject,
  type TestDatabase,
} from './database.js';
import { EventStreamClient } from '../../../testing/testkit/clients/event-stream-client.ts';
import { PlainClient } from './plain-client.js';
import { freePort } from '../../../testing/testkit/program.ts';
import { createUser, nextEvent, startTestServer, type TestServer, testSecret } from './server.js';

/** An nginx that accepts -e; older versions write to the system's log. */
const nginx = ['/usr/sbin/nginx', 'nginx'].find(
  (file) => spawnSync(file, ['-e', 'stderr', '-v']).status === 0,
);
/** Not that of the proxy, which listens on 127.0.0.1. Linux answers for all of 127.0.0.0/8. */
const clientAddress = '127.0.0.2';
const canRun = nginx !== undefined && process.platform === 'linux';
if (!canRun)
  process.stdout.write(
    'togglr-guide: nginx 1.19.5 or newer is not installed, so its part of the guide is not tested\n',
  );

const nginxFiles = new URL('../../../deploy/togglr/', import.meta.url);

/** The block of the guide that begins with the name of this file. */
async function blockOf(file: string): Promise<string> {
  const guide = await readFile(new URL('../../../docs/togglr.md', import.meta.url), 'utf8');
  const blocks = [...guide.matchAll(/^```\w+\n([^]*?)^```$/gm)].map(([, text = '']) => text);
  const found = blocks.filter((text) => text.startsWith(`# ${file}\n`));
  if (found[0] === undefined || found.length > 1) throw new Error(`${found.length} blocks of ${file}`);
  return found[0];
}

it('the settings of the Togglr guide are accepted by serve', async () => {
  const lines = (await blockOf('/etc/flagcast.env')).split('\n').filter((line) => /^\w/.test(line));
  const environment = Object.fromEntries(lines.map((line) => line.split(/=(.*)/, 2)) as [string, string][]);
  expect(loadConfig(environment, {})).toMatchObject({
    host: '127.0.0.1',
    port: 8095,
    eventTypes: 'togglr',
    allowQueryToken: true,
    trustedProxies: ['127.0.0.1', '::1'],
    writes: false,
  });
});

describe.skipIf(!canRun)('nginx with the configuration of the guide, in front of a Togglr', () => {
  let database: TestDatabase;
  let server: TestServer;
  let togglr: ReturnType<typeof createServer>;
  let folder: string;
  let port: number;
  let origin: string;
  let token: string;
  let query: Record<string, string>;
  let channel: { projectId: string; environmentId: string };
  let running: ChildProcess | null = null;

  beforeAll(async () => {
    database = await createTestDatabase({ schema: 'tables' });
    ({ token } = await createUser(database.pool, 'root', { superuser: true }));
    const { projectId, environments } = await seedProject(database.pool);
    channel = { projectId, environmentId: environments.prod };
    query = { project_id: projectId, env_id: environments.prod };
    server = await startTestServer(database.url, {
      eventTypes: 'togglr',
      auth: { secret: testSecret, allowQueryToken: true },
      network: { trustedProxies: ['127.0.0.1', '::1'] },
      database: { pollIntervalMs: 50 },
    });
    togglr = createServer((request, response) => response.end(`Togglr answers ${request.url ?? ''}`));
    togglr.listen(0, '127.0.0.1');
    await once(togglr, 'listening');
    folder = await createTestFolder();
    port = await freePort();
    origin = `http://127.0.0.1:${port}`;
    await configure(true);
  });

  afterEach(async () => {
    await end();
  });

  afterAll(async () => {
    togglr.closeAllConnections();
    togglr.close();
    await server.close();
    await database.drop();
    await rm(folder, { recursive: true });
  });

  /** Togglr's `server` block before the guide, and with the line of the guide. */
  async function configure(withFlagcast: boolean): Promise<void> {
    const togglrUrl = `http://127.0.0.1:${(togglr.address() as AddressInfo).port}`;
    const logs = path.join(folder, 'log');
    await mkdir(path.join(folder, 'snippets'), { recursive: true });
    await mkdir(logs, { recursive: true });
    const http = await readFile(new URL('flagcast-http.conf', nginxFiles), 'utf8');
    const snippet = await readFile(new URL('flagcast-locations.conf', nginxFiles), 'utf8');
    expect(http).toContain('127.0.0.1:8095');
    await writeFile(path.join(folder, 'snippets/flagcast.conf'), snippet.replaceAll('/var/log/nginx', logs));
    const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'];
    await writeFile(
      path.join(folder, 'nginx.conf'),
      `daemon off; master_process off; pid ${folder}/pid; error_log ${logs}/other.log;
       events {}
       http {
         ${temporary.map((name) => `${name}_temp_path ${folder}/${name};`).join(' ')}
         access_log ${logs}/other.log;
         ${http.replace('127.0.0.1:8095', new URL(server.httpUrl).host)}
         server {
           listen 127.0.0.1:${port};
           ${withFlagcast ? 'include snippets/flagcast.conf;' : ''}
           location / { proxy_pass ${togglrUrl}; }
           location /api/ { proxy_pass ${togglrUrl}; }
           location /api/ws { proxy_pass ${togglrUrl}; }
         }
       }`,
    );
  }

  async function start(): Promise<void> {
    running = spawn(nginx ?? '', ['-p', folder, '-c', 'nginx.conf', '-e', `${folder}/log/other.log`], {
      stdio: ['ignore', 'ignore', 'inherit'],
    });
    // nginx does not report when it listens.
    await vi.waitFor(async () => {
      const socket = connect(port, '127.0.0.1');
      await once(socket, 'connect').finally(() => socket.destroy());
    }, 60_000);
  }

  async function end(): Promise<void> {
    if (running === null) return;
    const exited = once(running, 'exit');
    running.kill('SIGTERM');
    await exited;
    running = null;
  }

  async function textOf(target: string, headers: Record<string, string> = {}): Promise<string> {
    const asked = get(`${origin}${target}`, { headers, agent: false });
    const [response] = (await once(asked, 'response')) as [IncomingMessage];
    let text = '';
    for await (const chunk of response) text += String(chunk);
    return text;
  }

  const wsUrl = (): string => `${origin.replace('http', 'ws')}/api/ws`;

  it('routes WebSockets, server-sent events and snapshots to Flagcast, and all other requests to Togglr', async () => {
    await start();
    const client = await PlainClient.connect(wsUrl(), { ...query, token }, { headers: { Origin: origin } });
    const bearer = { Authorization: `Bearer ${token}` };
    const stream = await EventStreamClient.open(origin, query, { ...bearer, Origin: origin });
    await stream.control('caught_up');
    const { entityId } = await insertAudit(database.pool, channel);
    expect(await client.received(({ entity_id: id }) => id === entityId)).toMatchObject({
      type: 'feature_update',
    });
    expect(await stream.event(entityId)).toMatchObject({ type: 'feature_updated' });
    const search = new URLSearchParams(query).toString();
    expect(JSON.parse(await textOf(`/api/snapshot?${search}`, bearer))).toMatchObject({
      project_id: channel.projectId,
    });
    // nginx decodes a path before it selects a location, and forwards it unchanged.
    for (const target of ['/api/%77s', '/api/%73napshot']) {
      expect(JSON.parse(await textOf(`${target}?${search}`, bearer))).toMatchObject({
        code: 'path_not_canonical',
      });
    }
    for (const target of [
      '/',
      '/api/v1/projects',
      '/api/events/more',
      '/api/ws/more',
      '/snapshot',
      '/%6detrics',
    ]) {
      expect(await textOf(target)).toBe(`Togglr answers ${target}`);
    }
    await expect(
      PlainClient.connect(wsUrl(), { ...query, token }, { headers: { Origin: 'https://evil.example' } }),
    ).rejects.toMatchObject({ status: 403, body: { code: 'origin_forbidden' } });
    stream.response.destroy();
    await client.close();
  });

  it('passes on the address of the client, whatever address the client sends', async () => {
    await start();
    const refused = nextEvent(server.flagcast.lifecycle, 'connection:refused');
    const headers = { 'X-Forwarded-For': '198.51.100.9' };
    const socket = new WebSocket(`${wsUrl()}?${new URLSearchParams(query).toString()}`, {
      localAddress: clientAddress,
      headers,
    });
    await once(socket, 'error');
    expect(await refused).toMatchObject({ status: 401, code: 'token_missing', address: clientAddress });
  });

  it('writes no token to its logs, with and without Flagcast, and works as before after the rollback', async () => {
    await start();
    const client = await PlainClient.connect(wsUrl(), { ...query, token });
    await client.close();
    await server.close();
    const search = new URLSearchParams({ ...query, token }).toString();
    expect(await textOf(`/api/ws?${search}`)).toContain('502 Bad Gateway');
    await end();
    const log = async (name: string): Promise<string> =>
      await readFile(path.join(folder, 'log', name), 'utf8');
    expect(await log('access.log')).toMatch(
      /"GET \/api\/ws HTTP\/1.1" 101 [^]*"GET \/api\/ws HTTP\/1.1" 502 /,
    );
    for (const name of ['access.log', 'error.log', 'other.log']) expect(await log(name)).not.toContain(token);

    await configure(false);
    await start();
    expect(await textOf('/api/ws')).toBe('Togglr answers /api/ws');
  });
});
