import { once } from 'node:events';
import { type AddressInfo, connect } from 'node:net';
import { afterAll, afterEach, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { RunningCommand, runCommand } from './command.js';
import { createTestDatabase, type TestDatabase } from './database.js';
import { freePort } from '../../../testing/testkit/program.ts';
import { startTestServer, testSecret } from './server.js';

const targets = ['/metrics', '/healthz', '/readyz'];

let database: TestDatabase;
const undo: (() => Promise<void>)[] = [];

beforeAll(async () => {
  database = await createTestDatabase({ schema: 'tables' });
});

afterEach(async () => {
  for (const step of undo.splice(0).reverse()) await step();
});

afterAll(async () => await database.drop());

async function statusesOf(url: string, paths: readonly string[] = targets): Promise<number[]> {
  const answers = await Promise.all(paths.map(async (path) => await fetch(url + path)));
  return answers.map(({ status }) => status);
}

function environment(more: Record<string, string>): Record<string, string> {
  return { DATABASE_URL: database.url, FLAGCAST_JWT_SECRET: testSecret, PORT: '0', ...more };
}

describe.each(['1', '2'])('serve with a port for monitoring and %s processes', (workers) => {
  it('serves the metrics and the health checks there, and nowhere else', async () => {
    const metricsPort = await freePort();
    const serve = new RunningCommand(['serve'], {
      env: environment({ FLAGCAST_METRICS_PORT: String(metricsPort), FLAGCAST_WORKERS: workers }),
    });
    undo.push(async () => await serve.end());
    const { url, monitoringUrl } = await serve.logged('server_listening');
    expect(monitoringUrl).toBe(`http://127.0.0.1:${metricsPort}`);
    if (workers === '1') await serve.logged('reader_started');
    else for (const worker of [1, 2]) await serve.logged('worker_ready', (line) => line['worker'] === worker);

    expect(await statusesOf(String(monitoringUrl))).toEqual([200, 200, 200]);
    const metrics = await (await fetch(`${String(monitoringUrl)}/metrics`)).text();
    expect(metrics).toContain(workers === '1' ? '\nflagcast_ready 1\n' : '\nflagcast_ready{worker="2"} 1\n');
    expect(
      await statusesOf(String(monitoringUrl), ['/', '/api/openapi.json', '/api/ws', '//metrics']),
    ).toEqual([404, 404, 404, 400]);

    expect(await statusesOf(String(url))).toEqual([404, 404, 404]);
    const document = (await (await fetch(`${String(url)}/api/openapi.json`)).json()) as { paths: object };
    expect(Object.keys(document.paths)).toContain('/api/snapshot');
    for (const target of targets) expect(Object.keys(document.paths)).not.toContain(target);

    serve.signal('SIGTERM');
    expect((await serve.ended).code).toBe(0);
  });
});

describe('the port for monitoring', () => {
  it('is named in the error if it is in use', async () => {
    const taken = await startTestServer(database.url);
    onTestFinished(async () => await taken.close());
    const { port } = taken.http.address() as AddressInfo;
    const { code, stderr } = await runCommand(['serve'], {
      env: environment({ FLAGCAST_METRICS_PORT: String(port) }),
    });
    expect({ code, stderr }).toEqual({
      code: 1,
      stderr: `flagcast: Port ${port} of 127.0.0.1 is in use; stop the program that uses it, or choose another port with FLAGCAST_METRICS_PORT\n`,
    });
  });

  it('answers to addresses, localhost and allowed hosts, also while the other port has too many connections', async () => {
    const server = await startTestServer(database.url, {
      network: { allowedHosts: ['flags.example.com'] },
      separateMonitoring: true,
      limits: { unauthenticatedConnections: 1 },
    });
    const monitoring = server.flagcast.createMonitoringServer().listen(0, '127.0.0.1');
    await once(monitoring, 'listening');
    onTestFinished(async () => {
      monitoring.closeAllConnections();
      monitoring.close();
      await server.close();
    });
    const { port } = monitoring.address() as AddressInfo;
    const idle = connect(Number(new URL(server.httpUrl).port), '127.0.0.1');
    await once(server.http, 'connection');
    const ask = async (host: string): Promise<string> => {
      const socket = connect(port, '127.0.0.1');
      socket.write(`GET /readyz HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`);
      const [head] = (await once(socket, 'data')) as [Buffer];
      socket.destroy();
      return head.toString('latin1', 9, 12);
    };
    expect(await ask('10.1.2.3:9464')).toBe('200');
    expect(await ask('localhost')).toBe('200');
    expect(await ask('flags.example.com')).toBe('200');
    expect(await ask('evil.example')).toBe('421');
    idle.destroy();
  });

  it("is not served by a host's own paths either", async () => {
    const server = await startTestServer(database.url, { separateMonitoring: true });
    onTestFinished(async () => await server.close());
    for (const url of targets) expect(server.flagcast.handles({ url })).toBe(false);
    expect(server.flagcast.handles({ url: '/api/snapshot' })).toBe(true);
  });
});
