import { readdirSync, readFileSync } from 'node:fs';
import { QueryClient, QueryClientProvider } from '@tanstack/react-query';
import type { ReactNode } from 'react';
import { createRoot } from 'react-dom/client';
import { afterAll, beforeAll, expect, it, vi } from 'vitest';
import { WebSocket } from 'ws';
import {
  createTestDatabase,
  insertAudit,
  insertRequest,
  seedProject,
  type TestDatabase,
} from '../../server/test/database.js';
import { createUser, startTestServer, type TestServer } from '../../server/test/server.js';
import { watchApprovals } from '../examples/approvals.js';
import { logEvents } from '../examples/node.js';
import { App } from '../examples/react.js';
import { connect } from '../examples/tabs.js';
import { FeatureNames } from '../examples/tanstack-query.js';
import { showFeatures } from '../examples/vanilla.js';

// The server requires Node's URL class, so only the globals that React needs are set, before React is imported.
await vi.hoisted(async () => {
  const { Window } = await import('happy-dom');
  const window = new Window();
  const { document, navigator } = window;
  Object.assign(globalThis, { window, document, ...('navigator' in globalThis ? {} : { navigator }) });
});

let database: TestDatabase;
let server: TestServer;
let projectId: string;
let environmentId: string | number | undefined;
let token: string;
beforeAll(async () => {
  vi.stubGlobal('WebSocket', WebSocket);
  database = await createTestDatabase({ schema: 'tables' });
  server = await startTestServer(database.url);
  const seeded = await seedProject(database.pool);
  projectId = seeded.projectId;
  environmentId = seeded.environments['prod'];
  ({ token } = await createUser(database.pool, 'root', { superuser: true }));
});
afterAll(async () => {
  vi.unstubAllGlobals();
  await server.close();
  await database.drop();
});

/** Adds an enabled feature, and the event of its creation. */
async function addFeature(key: string): Promise<void> {
  const { rows } = await database.pool.query<{ id: string }>(
    `INSERT INTO features (id, project_id, key, name, kind)
     VALUES (gen_random_uuid(), $1, $2::text, 'Name of ' || $2::text, 'simple') RETURNING id::text`,
    [projectId, key],
  );
  const featureId = String(rows[0]?.id);
  await database.pool.query('UPDATE feature_params SET enabled = true WHERE feature_id = $1', [featureId]);
  await insertAudit(database.pool, {
    projectId,
    environmentId,
    featureId,
    entityId: featureId,
    action: 'create',
  } as Parameters<typeof insertAudit>[1]);
}

async function rendered(element: ReactNode, key: string): Promise<void> {
  const container = document.createElement('div');
  const root = createRoot(container);
  root.render(element);
  await addFeature(key);
  await expect.poll(() => container.textContent).toContain(key);
  root.unmount();
}

it('the example without a framework shows a new feature', async () => {
  const list = document.createElement('pre');
  const close = showFeatures(list, server.httpUrl, () => token, projectId);
  await addFeature('plain');
  await expect.poll(() => list.textContent).toContain('plain: on');
  close();
});

it('the React example shows a new feature', async () => {
  const client = connect(server.httpUrl, () => token, 'root');
  await rendered(<App client={client} projectId={projectId} />, 'react');
  client.close();
});

it('the TanStack Query example shows a new feature', async () => {
  const client = connect(server.httpUrl, () => token, 'root');
  const channel = client.channel({ projectId, env: 'prod' });
  await rendered(
    <QueryClientProvider client={new QueryClient()}>
      <FeatureNames channel={channel} />
    </QueryClientProvider>,
    'query',
  );
  client.close();
});

it('the Node example logs the event of a new feature', async () => {
  const lines: string[] = [];
  const client = logEvents(server.httpUrl, token, projectId, (line) => lines.push(line));
  // Not the status of the client: its channel still loads the snapshot then, which may contain the new feature.
  const channel = client.channel({ projectId, env: 'prod' });
  await channel.ready();
  channel.close();
  await addFeature('node');
  await expect.poll(() => lines.join('\n')).toContain('feature_created of node');
  client.close();
});

it('the approvals example counts a new request', async () => {
  const client = connect(server.httpUrl, () => token, 'root');
  let text = '';
  const close = watchApprovals(client, (shown) => (text = shown));
  await expect.poll(() => text).toContain('0 open');
  await insertRequest(database.pool, { projectId, environmentId: String(environmentId) });
  await expect.poll(() => text).toBe('1 open, 1 in projects where you decide, 0 decided');
  close();
  client.close();
});

const folder = new URL('..', `file://${import.meta.filename}`);
const read = (path: string): string => readFileSync(new URL(path, folder), 'utf8');

it.each(readdirSync(new URL('examples/', folder)))(
  'the README contains the current text of %s, or the guide links to it',
  (file) => {
    const isLinked = read('../../docs/client.md').includes(`](../packages/client/examples/${file}`);
    const language = file.split('.').at(-1) ?? '';
    if (!isLinked)
      expect(read('README.md')).toContain(`\`\`\`${language}\n${read(`examples/${file}`)}\`\`\``);
  },
);
