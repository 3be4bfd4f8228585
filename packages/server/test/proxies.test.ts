import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import type { IncomingMessage } from 'node:http';
import { get, type RequestOptions } from 'node:https';
import { connect } from 'node:net';
import path from 'node:path';
import { text } from 'node:stream/consumers';
import { afterAll, beforeAll, describe, expect, it, onTestFinished, vi } from 'vitest';
import type { ClientOptions } from 'ws';
import {
  createTestDatabase,
  createTestFolder,
  insertAudit,
  seedProject,
  type TestDatabase,
} from './database.js';
import { EventStreamClient } from '../../../testing/testkit/clients/event-stream-client.ts';
import { freePort } from '../../../testing/testkit/program.ts';
import { builtPagesDir } from '../../console/server/console-files.js';
import { createUser, nextEvent, startTestServer, type TestServer } from './server.js';
import { type TestChannel, V1Client } from './v1-client.js';

interface Proxy {
  readonly name: string;
  readonly programs: readonly string[];
  /** The command that prints its version, and fails if it is not installed. */
  readonly version: readonly string[];
  /** Its configuration in deploy/proxies. */
  readonly file: string;
  /** The configuration as the program gets it, in this folder and for this port. */
  readonly configure: (block: string, folder: string, port: number) => string;
  readonly args: (file: string, folder: string) => readonly string[];
  /** The configuration of the guide, changed as the guide says for a server under `/flagcast/`. */
  readonly underPath: (block: string) => string;
}

/** The protected paths, in every spelling that a proxy or a server may normalize to them. */
const hiddenTargets = ['metrics', 'healthz', 'readyz'].flatMap((path) => {
  const encoded = `%${path.charCodeAt(0).toString(16)}${path.slice(1)}`;
  return [
    `/${path}`,
    `/${encoded}`,
    `/%${path.charCodeAt(0).toString(16).toUpperCase()}${path.slice(1)}`,
    `/./${path}`,
    `//${path}`,
    `/x/../${path}`,
    `/%2e/${path}`,
    `/%2E%2F${path}`,
    `/x/..%2f${path}`,
    `/x%5c..%5c${path}`,
    `/${path}/.`,
    `/${path}?a=/../`,
    `/${encoded}?`,
    `http://flags.example.com/${encoded}`,
  ];
});

const name = 'flags.example.com';
const certificates = `/etc/ssl/${name}`;

const configurations = new URL('../../../deploy/proxies/', import.meta.url);

const proxies: readonly Proxy[] = [
  {
    name: 'nginx',
    programs: ['/usr/sbin/nginx', 'nginx'],
    version: ['-e', 'stderr', '-v'],
    file: 'nginx.conf',
    configure: (block, folder, port) => {
      const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'];
      return `daemon off; master_process off; pid ${folder}/pid; error_log ${folder}/log;
        events {}
        http {
          ${temporary.map((each) => `${each}_temp_path ${folder}/${each};`).join(' ')}
          access_log off;
          ${block.replace('listen 443 ssl', `listen 127.0.0.1:${port} ssl`)}
        }`;
    },
    args: (file, folder) => ['-p', folder, '-c', file, '-e', path.join(folder, 'log')],
    underPath: (block) =>
      block
        .replace('location / {', 'location /flagcast/ {')
        .replace('proxy_pass http://flagcast;', 'proxy_pass http://flagcast/;')
        .replace('^/(metrics', '^/flagcast/(metrics'),
  },
  {
    name: 'HAProxy',
    programs: ['/usr/sbin/haproxy', 'haproxy'],
    version: ['-v'],
    file: 'haproxy.cfg',
    configure: (block, _folder, port) => block.replace('bind :443 ', `bind 127.0.0.1:${port} `),
    args: (file) => ['-db', '-q', '-f', file],
    underPath: (block) =>
      block
        .replace(
          '  default_backend',
          '  http-request return status 404 unless { path_beg /flagcast/ }\n' +
            '  http-request replace-path /flagcast(/.*) \\1\n  default_backend',
        )
        .replace(
          '{ path,url_dec /metrics /healthz /readyz }',
          '{ path,url_dec -m end /metrics /healthz /readyz }',
        ),
  },
  {
    name: 'Caddy',
    programs: ['/usr/bin/caddy', 'caddy'],
    version: ['version'],
    file: 'Caddyfile',
    configure: (block, folder, port) => {
      const site = `https://${name}:${port} {\n  tls ${folder}/cert.pem ${folder}/key.pem\n  bind 127.0.0.1\n`;
      return `{\n  admin off\n  auto_https disable_redirects\n}\n${block.replace(`\n${name} {\n`, `\n${site}`)}`;
    },
    args: (file) => ['run', '--adapter', 'caddyfile', '--config', file],
    underPath: (block) =>
      block.replace(
        /\n(  @internal[^]*\n  \}\n)\}/,
        (_, site: string) => `\n  handle_path /flagcast/* {\n${site}  }\n  respond 404\n}`,
      ),
  },
];

const hasOpenssl = spawnSync('openssl', ['version']).status === 0;
/** Linux answers for all of 127.0.0.0/8. */
const canRun = hasOpenssl && process.platform === 'linux';
const clientAddress = '127.0.0.2';

let database: TestDatabase;
let folder: string;
let certificate: string;
let token: string;
let channel: TestChannel;

beforeAll(async () => {
  database = await createTestDatabase({ schema: 'tables' });
  ({ token } = await createUser(database.pool, 'root', { superuser: true, ttlMs: 600_000 }));
  const { projectId, environments } = await seedProject(database.pool);
  channel = { projectId, environmentId: environments.prod };
  folder = await createTestFolder();
  if (!canRun) return;
  const files = { '-keyout': 'key.pem', '-out': 'cert.pem' };
  const made = spawnSync('openssl', [
    ...['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2'],
    ...['-subj', `/CN=${name}`, '-addext', `subjectAltName=DNS:${name}`],
    ...Object.entries(files).flatMap(([option, file]) => [option, path.join(folder, file)]),
  ]);
  expect(made.status).toBe(0);
  certificate = readFileSync(path.join(folder, 'cert.pem'), 'utf8');
  const key = readFileSync(path.join(folder, 'key.pem'), 'utf8');
  await writeFile(path.join(folder, 'both.pem'), certificate + key);
});

afterAll(async () => {
  await database.drop();
  await rm(folder, { recursive: true });
});

async function startServers(): Promise<[TestServer, TestServer]> {
  const start = async (): Promise<TestServer> => {
    const server = await startTestServer(database.url, {
      console: { pagesDir: builtPagesDir },
      network: { trustedProxies: ['127.0.0.1'] },
      database: { pollIntervalMs: 50 },
      timeouts: { heartbeatIntervalMs: 250, keepAliveIntervalMs: 250 },
    });
    onTestFinished(async () => await server.close());
    return server;
  };
  return [await start(), await start()];
}

async function startProxy(
  proxy: Proxy,
  program: string,
  servers: [TestServer, TestServer],
  changed: (block: string) => string = (block) => block,
): Promise<number> {
  const port = await freePort();
  const own = await mkdtemp(path.join(folder, proxy.name));
  const [one, two] = servers.map(({ httpUrl }) => new URL(httpUrl).host);
  const block = changed(readFileSync(new URL(proxy.file, configurations), 'utf8'))
    .replaceAll('10.0.0.21:8080', one ?? '')
    .replaceAll('10.0.0.22:8080', two ?? '')
    .replaceAll(certificates, folder)
    // So long nothing may be quiet.
    .replaceAll('90s', '3s');
  const file = path.join(own, 'configuration');
  await writeFile(file, proxy.configure(block, proxy.name === 'Caddy' ? folder : own, port));
  const child = spawn(program, [...proxy.args(file, own)], {
    stdio: ['ignore', 'ignore', 'pipe'],
    env: { PATH: process.env['PATH'], HOME: own, XDG_DATA_HOME: own, XDG_CONFIG_HOME: own },
  });
  const said = text(child.stderr);
  onTestFinished(async () => await end(child));
  // The proxies do not report when they listen.
  await vi.waitFor(
    async () => {
      if (child.exitCode !== null) throw new Error(`${proxy.name} ended: ${await said}`);
      const socket = connect(port, '127.0.0.1');
      await once(socket, 'connect').finally(() => socket.destroy());
    },
    { timeout: 60_000 },
  );
  return port;
}

/** How to reach the proxy by its name. */
function lineTo(ca: string): ClientOptions & RequestOptions {
  return {
    ca,
    localAddress: clientAddress,
    lookup: (_host, options, tell) => {
      if (options.all === true) tell(null, [{ address: '127.0.0.1', family: 4 }]);
      else tell(null, '127.0.0.1', 4);
    },
  };
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null) return;
  const exited = once(child, 'exit');
  child.kill('SIGKILL');
  await exited;
}

describe.each(proxies)('$name with the configuration of deploy/proxies', (proxy) => {
  const program = proxy.programs.find((file) => spawnSync(file, [...proxy.version]).status === 0);
  if (program === undefined || !canRun) {
    process.stdout.write(`proxies: no ${proxy.name} here, or no openssl, so it is not tested\n`);
  }

  it.skipIf(program === undefined || !canRun)(
    'lets through what is live, quiet or not, and a server be stopped',
    async () => {
      const servers = await startServers();
      const port = await startProxy(proxy, program ?? '', servers);
      const origin = `https://${name}:${port}`;
      const line = lineTo(certificate);
      const ask = async (
        target: string,
        from = origin,
      ): Promise<{ status: number | undefined; body: string }> => {
        const headers = { Authorization: `Bearer ${token}`, Origin: from };
        // Sends the path unchanged: `URL` would normalize it.
        const asked = get(origin, { ...line, path: target, headers, agent: false });
        const [response] = (await once(asked, 'response')) as [IncomingMessage];
        return { status: response.statusCode, body: await text(response) };
      };
      const wsUrl = `${origin.replace('https', 'wss')}/api/ws`;
      const open = async (): Promise<V1Client> =>
        await V1Client.connect(wsUrl, { token, socketOptions: line, headers: { Origin: origin } });
      const query = { project_id: channel.projectId, env_id: channel.environmentId };
      const bearer = { Authorization: `Bearer ${token}`, Origin: origin };

      // One for each server: the proxy selects the server with the fewest connections.
      const clients = [await open(), await open()];
      for (const client of clients) await client.caughtUp(channel);
      // As a browser asks: a proxy that compressed the stream would hold its events back.
      const stream = await EventStreamClient.open(
        origin,
        query,
        { ...bearer, 'Accept-Encoding': 'gzip, deflate, br' },
        line,
      );
      await stream.control('caught_up');
      const write = async (): Promise<string> => (await insertAudit(database.pool, channel)).entityId;
      for (const quiet of [false, true]) {
        // The database is the clock.
        if (quiet) await database.pool.query('SELECT pg_sleep(3.5)');
        const entityId = await write();
        for (const each of [...clients, stream])
          expect((await each.event(entityId)).entity_id).toBe(entityId);
      }
      const snapshot = await ask(`/api/snapshot?${new URLSearchParams(query)}`);
      expect(snapshot).toEqual({ status: 200, body: expect.stringContaining(channel.projectId) as string });
      for (const target of hiddenTargets) {
        const { status, body } = await ask(target);
        expect([target, status]).not.toEqual([target, 200]);
        expect(body).not.toMatch(/flagcast_\w+ |"status":/);
      }
      // Page and server are of one origin only with the scheme that the browser used.
      expect(await ask('/api/auth/me')).toMatchObject({ status: 200 });
      expect(await ask('/api/auth/me', origin.replace('https:', 'http:'))).toMatchObject({ status: 403 });
      const refused = servers.map(
        async ({ flagcast }) => await nextEvent(flagcast.lifecycle, 'connection:refused'),
      );
      const forged = { Origin: origin, 'X-Forwarded-For': '198.51.100.9' };
      const anonymous = await V1Client.connect(wsUrl, { socketOptions: line, headers: forged });
      await anonymous.closed;
      expect(await Promise.race(refused)).toMatchObject({ code: 'token_missing', address: clientAddress });

      const [first] = servers;
      const cursors = clients.map(
        ({ events }) => events.findLast(({ cursor }) => cursor !== undefined)?.cursor,
      );
      first.http.close();
      await first.close();
      const left = await Promise.race(clients.map(async (client, at) => ({ at, ...(await client.closed) })));
      expect(left.code).toBe(4000);
      const missed = await write();
      const again = await open();
      await again.caughtUp(channel, cursors[left.at]);
      expect((await again.event(missed)).entity_id).toBe(missed);
      stream.response.destroy();
      await again.close();
      for (const client of clients) client.socket.terminate();
    },
  );

  it.skipIf(program === undefined || !canRun)('serves all of it under a path', async () => {
    const servers = await startServers();
    const port = await startProxy(proxy, program ?? '', servers, proxy.underPath);
    const origin = `https://${name}:${port}`;
    const line = lineTo(certificate);
    const ask = async (
      target: string,
    ): Promise<{ status: number | undefined; type: string; body: string }> => {
      const asked = get(origin, { ...line, path: target, agent: false });
      const [response] = (await once(asked, 'response')) as [IncomingMessage];
      const type = response.headers['content-type'] ?? '';
      return { status: response.statusCode, type, body: await text(response) };
    };
    for (const page of ['/flagcast/', '/flagcast/approvals', '/flagcast/p/x/prod/features']) {
      const { body } = await ask(page);
      const files = [...body.matchAll(/(?:src|href)="([^"]+)"/g)].map(
        ([, file = '']) => new URL(file, origin + page).pathname,
      );
      expect(files.length).toBeGreaterThan(2);
      for (const file of files) {
        expect(await ask(file)).toMatchObject({
          status: 200,
          type: expect.stringMatching(/^(text\/(javascript|css)|image\/svg)/) as string,
        });
      }
    }
    for (const target of hiddenTargets.filter((each) => each.startsWith('/'))) {
      const { status, body } = await ask(`/flagcast${target}`);
      expect([target, status]).not.toEqual([target, 200]);
      expect(body).not.toMatch(/flagcast_\w+ |"status":/);
    }
    const headers = { Origin: origin };
    const client = await V1Client.connect(`${origin.replace('https', 'wss')}/flagcast/api/ws`, {
      token,
      socketOptions: line,
      headers,
    });
    await client.caughtUp(channel);
    const query = { project_id: channel.projectId, env_id: channel.environmentId };
    const bearer = { ...headers, Authorization: `Bearer ${token}` };
    const stream = await EventStreamClient.open(`${origin}/flagcast`, query, bearer, line);
    await stream.control('caught_up');
    stream.response.destroy();
    client.socket.terminate();
  });
});
