import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createPagesApp } from '../../server/console-files.js';
import {
  createTestDatabase,
  seedProject,
  type SeededProject,
  type TestDatabase,
} from '../../../server/test/database.js';
import { startTestServer, type TestServer } from '../../../server/test/server.js';

const pageWith = (up: string): string =>
  `<!doctype html><title>Flagcast</title><link href="${up}icon.svg"><script src="${up}assets/index-BhcBzS3k.js"></script>`;
const script = `console.log(${JSON.stringify('x'.repeat(2_000))})`;

let folder: string;
let database: TestDatabase;
let server: TestServer;
let project: SeededProject;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'flagcast-console-'));
  await mkdir(join(folder, 'assets'));
  await mkdir(join(folder, '.vite'));
  await writeFile(join(folder, 'index.html'), pageWith('./'));
  await writeFile(join(folder, 'icon.svg'), '<svg xmlns="http://www.w3.org/2000/svg"/>');
  await writeFile(join(folder, 'assets', 'index-BhcBzS3k.js'), script);
  await writeFile(join(folder, '.vite', 'manifest.json'), '{}');
  database = await createTestDatabase({ schema: 'tables' });
  project = await seedProject(database.pool, { name: 'shop' });
  server = await startTestServer(database.url, { console: { pagesDir: folder } });
});

afterAll(async () => {
  await server.close();
  await database.drop();
  await rm(folder, { recursive: true });
});

async function ask(path: string, headers: Record<string, string> = {}): Promise<Response> {
  return await fetch(new URL(path, server.httpUrl), { headers, redirect: 'manual' });
}

describe('the console', () => {
  it.each([
    ['/', './'],
    ['/?q=1', './'],
    ['/approvals', './'],
    ['/approvals/1', '../'],
    ['/p/x/prod', '../../'],
    ['/p/x/prod/', '../../../'],
    ['/p/x/prod/features/1?state=on', '../../../../'],
  ])(
    'is the same page at %s, revalidated each time, with the relative path of its files: %s',
    async (path, up) => {
      const answer = await ask(path);
      expect(answer.status).toBe(200);
      expect(answer.headers.get('content-type')).toBe('text/html; charset=utf-8');
      expect(answer.headers.get('cache-control')).toBe('no-cache');
      expect(await answer.text()).toBe(pageWith(up));
      const headers = { 'If-None-Match': answer.headers.get('etag') ?? '' };
      expect((await ask(path, headers)).status).toBe(304);
      // A page at another depth has another relative path.
      expect((await ask(`/p/1/2/3/4/5/6`, headers)).status).toBe(200);
    },
  );

  it('lets the page run only its own scripts, in no frame, and sends no referrer', async () => {
    const { headers } = await ask('/p/x/prod/features');
    const policy = headers.get('content-security-policy')?.split('; ');
    expect(policy).toContain("default-src 'none'");
    expect(policy).toContain("script-src 'self'");
    expect(policy).toContain("frame-ancestors 'none'");
    expect(policy).toContain("connect-src 'self'");
    expect(headers.get('x-content-type-options')).toBe('nosniff');
    expect(headers.get('referrer-policy')).toBe('no-referrer');
  });

  it('lets browsers cache files with a hash in their name permanently, and other files until they change', async () => {
    const asset = await ask('/assets/index-BhcBzS3k.js');
    expect(asset.headers.get('content-type')).toBe('text/javascript; charset=utf-8');
    expect(asset.headers.get('cache-control')).toBe('public, max-age=31536000, immutable');
    const icon = await ask('/icon.svg');
    expect(icon.headers.get('content-type')).toBe('image/svg+xml; charset=utf-8');
    expect(icon.headers.get('cache-control')).toBe('no-cache');
    const etag = icon.headers.get('etag') ?? '';
    const again = await ask('/icon.svg', { 'If-None-Match': `W/${etag}` });
    expect(again.status).toBe(304);
    expect(await again.text()).toBe('');
    expect((await ask('/icon.svg', { 'If-None-Match': '"another"' })).status).toBe(200);
  });

  it('is compressed for clients that accept gzip', async () => {
    const app = createPagesApp(folder);
    const path = '/assets/index-BhcBzS3k.js';
    const small = await app.request(path, { headers: { 'Accept-Encoding': 'br, gzip' } });
    expect(small.headers.get('content-encoding')).toBe('gzip');
    const bytes = Buffer.from(await small.arrayBuffer());
    expect(bytes.length).toBeLessThan(script.length / 10);
    expect(gunzipSync(bytes).toString()).toBe(script);
    for (const accepted of ['identity', 'gzip;q=0, br', 'gzip;q=0']) {
      const plain = await app.request(path, { headers: { 'Accept-Encoding': accepted } });
      expect(plain.headers.get('content-encoding')).toBeNull();
      expect(await plain.text()).toBe(script);
    }
  });

  it.each([
    '/api',
    '/api/nothing',
    '/api/p/x',
    '/assets/gone-00000000.js',
    '/favicon.ico',
    '/.vite/manifest.json',
  ])('is not sent for %s', async (path) => {
    const answer = await ask(path);
    expect(answer.status).toBe(404);
    expect(await answer.json()).toMatchObject({ code: 'not_found' });
  });

  it.each([
    ['/nope/x', '../'],
    ['/metric', './'],
  ])('is sent with 404 to a browser that asks for %s', async (path, up) => {
    const headers = { Accept: 'text/html,application/xhtml+xml,*/*;q=0.8' };
    const answer = await ask(path, headers);
    expect([answer.status, await answer.text()]).toEqual([404, pageWith(up)]);
    const again = await ask(path, { ...headers, 'If-None-Match': answer.headers.get('etag') ?? '' });
    expect(again.status).toBe(404);
    expect(await (await ask('/api/nope', headers)).json()).toMatchObject({ code: 'not_found' });
  });

  it('does not send files outside of its folder', async () => {
    // The first two are brought into their canonical form before they are sent.
    for (const path of ['/assets/../../package.json', '/assets/%2e%2e/%2e%2e/package.json']) {
      expect((await ask(path)).status).toBe(404);
    }
    expect((await ask('/..%2fpackage.json')).status).toBe(400);
  });

  it('does not change the API', async () => {
    expect(await (await ask('/healthz')).json()).toStrictEqual({ status: 'ok' });
    const { status } = await ask(`/api/snapshot?project_id=${project.projectId}&env=prod`);
    expect(status).toBe(401);
  });
});

describe('a server without the console', () => {
  it('says how to build it', async () => {
    const app = createPagesApp(join(folder, 'missing'));
    for (const path of ['/', '/p/x/prod/features', '/approvals']) {
      const answer = await app.request(path);
      expect(answer.status).toBe(404);
      expect(await answer.json()).toMatchObject({
        code: 'console_not_built',
        message: expect.stringContaining('npm run build') as string,
      });
    }
  });

  it('has no routes of pages if pagesDir is null', async () => {
    const app = createPagesApp(null);
    expect((await app.request('/')).status).toBe(404);
    expect(app.routes).toHaveLength(0);
  });
});
