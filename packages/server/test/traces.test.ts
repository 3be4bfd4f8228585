import { fileURLToPath } from 'node:url';
import { InMemorySpanExporter, NodeTracerProvider, SimpleSpanProcessor } from '@opentelemetry/sdk-trace-node';
import { afterAll, beforeAll, expect, it, onTestFinished, vi } from 'vitest';
import { type BroadcastBatch, Lifecycle } from '../src/lifecycle.js';
import { traceBatches } from '../src/operations/trace-batches.js';
import { exportTraces } from '../src/operations/export-traces.js';
import { Collector } from './collector.js';
import { runCommand, RunningCommand } from './command.js';
import { createTestDatabase, insertAudit, seedProject, type TestDatabase } from './database.js';
import { freePort } from '../../../testing/testkit/program.ts';
import { createUser, testSecret } from './server.js';
import { V1Client } from './v1-client.js';

/** For a process that cannot load a module of OpenTelemetry. */
const withoutOpenTelemetry = `--import data:text/javascript,${encodeURIComponent(`
  import { register } from 'node:module';
  const hooks = "export const resolve = (name, context, next) => {" +
    "if (!name.startsWith('@opentelemetry/')) return next(name, context);" +
    "throw Object.assign(new Error('Cannot find package ' + name), { code: 'ERR_MODULE_NOT_FOUND' }); };";
  register('data:text/javascript,' + encodeURIComponent(hooks));
`)}`;

let database: TestDatabase;

beforeAll(async () => {
  database = await createTestDatabase({ schema: 'tables' });
});

afterAll(async () => await database.drop());

function environment(more: Record<string, string>): Record<string, string> {
  return { DATABASE_URL: database.url, FLAGCAST_JWT_SECRET: testSecret, ...more };
}

async function startServe(
  more: Record<string, string>,
  file?: string,
): Promise<{ serve: RunningCommand; wsUrl: string }> {
  const options = { env: environment(more), ...(file !== undefined && { file }) };
  const serve = new RunningCommand(['serve', '--port', '0'], options);
  onTestFinished(async () => await serve.end());
  const { url } = await serve.logged('server_listening');
  await serve.logged('reader_started');
  return { serve, wsUrl: `${String(url).replace('http', 'ws')}/api/ws` };
}

const batch: BroadcastBatch = {
  events: 3,
  channels: 2,
  deliveries: 40,
  readMs: 4,
  seenAtMs: 1_800_000_000_010,
  sentAtMs: 1_800_000_000_025,
  committed: { firstAtMs: 1_799_999_999_000, lastAtMs: 1_800_000_000_001 },
};

it('a server sends one trace for each batch, from commit to delivery, without names', async () => {
  const collector = new Collector();
  onTestFinished(() => collector.close());
  const { serve, wsUrl } = await startServe({
    OTEL_EXPORTER_OTLP_ENDPOINT: await collector.open(),
    OTEL_SERVICE_NAME: 'flags',
    OTEL_RESOURCE_ATTRIBUTES: 'deployment.environment.name=test%20bed',
  });
  expect(await serve.logged('traces_started')).toMatchObject({ level: 'info' });
  const { token, username } = await createUser(database.pool, 'root', { superuser: true });
  const { projectId, environments } = await seedProject(database.pool, { name: 'shop' });
  const client = await V1Client.connect(wsUrl, { token });
  await client.caughtUp({ projectId, environmentId: environments.prod });
  const beganAtMs = Date.now();
  const { entityId } = await insertAudit(database.pool, { projectId, environmentId: environments.prod });
  await client.event(entityId);
  serve.signal('SIGTERM');
  expect(await serve.ended).toMatchObject({ code: 0, stderr: '' });
  await client.closed;

  const { spans } = collector;
  const root = spans.find(({ name }) => name === 'flagcast.batch');
  const others = spans.filter((span) => span !== root);
  const { traceId, spanId } = root ?? { traceId: '', spanId: '' };
  expect(root?.parentSpanId).toBeUndefined();
  expect(Object.fromEntries((root?.attributes ?? []).map(({ key, value }) => [key, value]))).toEqual({
    'flagcast.events': { intValue: 1 },
    'flagcast.channels': { intValue: 1 },
    'flagcast.deliveries': { intValue: 1 },
  });
  expect(others.map(({ name }) => name).sort()).toEqual(['broadcast', 'read']);
  for (const child of others) expect(child).toMatchObject({ traceId, parentSpanId: spanId, attributes: [] });
  const at = (time = ''): number => Number(BigInt(time) / 1_000_000n);
  const [read] = others.filter(({ name }) => name === 'read');
  const [sent] = others.filter(({ name }) => name === 'broadcast');
  // The commit's time is the database's, on the same clock here.
  expect(at(root?.startTimeUnixNano)).toBeGreaterThanOrEqual(beganAtMs - 1);
  expect(at(read?.startTimeUnixNano)).toBeGreaterThanOrEqual(at(root?.startTimeUnixNano));
  expect(sent?.startTimeUnixNano).toBe(read?.endTimeUnixNano);
  expect(root?.endTimeUnixNano).toBe(sent?.endTimeUnixNano);
  const resource = collector.exports[0]?.resource.attributes ?? [];
  expect(resource).toContainEqual({ key: 'service.name', value: { stringValue: 'flags' } });
  expect(resource).toContainEqual({
    key: 'deployment.environment.name',
    value: { stringValue: 'test bed' },
  });
  for (const secret of [token, username, projectId, entityId, 'prod', 'shop', testSecret]) {
    expect(collector.bodies.join('')).not.toContain(secret);
  }
});

it('OpenTelemetry is loaded only if traces are enabled, and reported if it is missing', async () => {
  const endpoint = `http://u:hunter2@127.0.0.1:${await freePort()}`;
  // Not bundled: the hook sees what modules import.
  const file = fileURLToPath(new URL('../bin/flagcast.js', import.meta.url));
  const { serve } = await startServe(
    {
      NODE_OPTIONS: withoutOpenTelemetry,
      OTEL_EXPORTER_OTLP_ENDPOINT: endpoint,
      OTEL_SDK_DISABLED: 'true',
    },
    file,
  );
  expect(serve.stdout).not.toContain('traces_started');
  serve.signal('SIGTERM');
  expect(await serve.ended).toMatchObject({ code: 0, stderr: '' });

  const env = environment({
    NODE_OPTIONS: withoutOpenTelemetry,
    OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: endpoint,
  });
  const { code, stderr } = await runCommand(['serve', '--port', '0'], { env, file });
  expect(code).toBe(1);
  expect(stderr).toMatch(
    /^flagcast: OTEL_[^\n]* asks for traces, but [^\n]*npm install [^\n]*, or unset it\n$/,
  );
});

it('traces that cannot be sent are logged and delay nothing', async () => {
  const { serve, wsUrl } = await startServe({
    OTEL_EXPORTER_OTLP_ENDPOINT: `http://u:hunter2@127.0.0.1:${await freePort()}`,
    OTEL_BSP_SCHEDULE_DELAY: '10',
    OTEL_EXPORTER_OTLP_TIMEOUT: '50',
  });
  const { token } = await createUser(database.pool, 'anybody', { superuser: true });
  const { projectId, environments } = await seedProject(database.pool);
  const client = await V1Client.connect(wsUrl, { token });
  await client.caughtUp({ projectId, environmentId: environments.prod });
  const { entityId } = await insertAudit(database.pool, { projectId, environmentId: environments.prod });
  await client.event(entityId);
  expect(await serve.logged('traces_failed')).toMatchObject({ level: 'warn', problems: 1 });
  serve.signal('SIGTERM');
  const { code, stdout } = await serve.ended;
  expect(code).toBe(0);
  expect(stdout).not.toContain('hunter2');
});

it('traces are sampled according to the standard variables', async () => {
  const collector = new Collector();
  onTestFinished(() => collector.close());
  vi.stubEnv('OTEL_EXPORTER_OTLP_ENDPOINT', await collector.open());
  onTestFinished(() => void vi.unstubAllEnvs());
  for (const sampler of ['always_off', 'always_on']) {
    vi.stubEnv('OTEL_TRACES_SAMPLER', sampler);
    const lifecycle = new Lifecycle();
    const stop = exportTraces(lifecycle, () => undefined);
    lifecycle.emit('batch:broadcast', batch);
    await stop();
    expect(collector.spans).toHaveLength(sampler === 'always_on' ? 3 : 0);
  }
  expect(collector.exports[0]?.resource.attributes).toContainEqual({
    key: 'service.name',
    value: { stringValue: 'flagcast' },
  });
});

it('traces of an embedding host go to its tracer, without unknown times', () => {
  const exporter = new InMemorySpanExporter();
  const provider = new NodeTracerProvider({ spanProcessors: [new SimpleSpanProcessor(exporter)] });
  const lifecycle = new Lifecycle();
  const end = traceBatches(lifecycle, provider.getTracer('host'));
  const finished = (): (readonly [string, number, number])[] => {
    const spans = exporter.getFinishedSpans().map(({ name, startTime, endTime }) => {
      const [startMs, endMs] = [startTime, endTime].map(([seconds, nanos]) => seconds * 1_000 + nanos / 1e6);
      return [name, (startMs ?? 0) - batch.seenAtMs, (endMs ?? 0) - batch.seenAtMs] as const;
    });
    exporter.reset();
    return spans;
  };
  lifecycle.emit('batch:broadcast', batch);
  expect(finished()).toEqual([
    ['read', -4, 0],
    ['broadcast', 0, 15],
    ['flagcast.batch', -9, 15],
  ]);
  // Another server has read it, and the database records no times.
  lifecycle.emit('batch:broadcast', { ...batch, readMs: null, committed: null });
  expect(finished()).toEqual([
    ['broadcast', 0, 15],
    ['flagcast.batch', 0, 15],
  ]);
  // The clock of the database is ahead.
  const ahead = { firstAtMs: batch.seenAtMs + 500, lastAtMs: batch.seenAtMs + 900 };
  lifecycle.emit('batch:broadcast', { ...batch, committed: ahead });
  expect(finished().at(-1)).toEqual(['flagcast.batch', -4, 15]);
  end();
  lifecycle.emit('batch:broadcast', batch);
  expect(finished()).toEqual([]);
});
