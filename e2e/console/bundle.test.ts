import { execFile } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { gzipSync } from 'node:zlib';
import { beforeAll, expect, it } from 'vitest';

const root = fileURLToPath(new URL('../../packages/console', import.meta.url));
const largestFirstLoad = 250_000;

let folder: string;
/** The files that the browser loads before it shows the sign-in page or the flags. */
let firstLoad: string[];

const gzippedBytes = (path: string): number => gzipSync(readFileSync(join(folder, path))).length;

beforeAll(async () => {
  // A separate build, so that the test measures the current sources.
  folder = fileURLToPath(new URL('../../node_modules/.cache/console-bundle', import.meta.url));
  await promisify(execFile)(
    'npx',
    ['vite', 'build', '--logLevel', 'error', '--outDir', folder, '--emptyOutDir'],
    { cwd: root, env: { ...process.env, NODE_ENV: 'production' } },
  );
  const page = readFileSync(join(folder, 'index.html'), 'utf8');
  firstLoad = [...page.matchAll(/(?:src|href)="\.\/(assets\/[^"]+)"/g)].flatMap(([, path]) => path ?? []);
});

it('the console loads at most 250 kB, gzipped, for its first page', () => {
  expect(firstLoad.some((path) => path.endsWith('.js'))).toBe(true);
  expect(firstLoad.some((path) => path.endsWith('.css'))).toBe(true);
  const bytes = firstLoad.map(gzippedBytes).reduce((sum, each) => sum + each, gzippedBytes('index.html'));
  expect(bytes, 'bytes, gzipped').toBeLessThanOrEqual(largestFirstLoad);
});

it('the other pages and the charts are not in the first load', () => {
  const later = readdirSync(join(folder, 'assets')).filter((file) => !firstLoad.includes(`assets/${file}`));
  for (const name of ['feature-page', 'approvals-page', 'activity-page', 'freshness-drawer', 'plot']) {
    expect(
      later.some((file) => file.startsWith(`${name}-`) && file.endsWith('.js')),
      name,
    ).toBe(true);
  }
});
