/**
 * `npm run versions [-- --all] [--node 20,22,24] [--postgres 14,15,16,17,18] [FILE...]`: runs tests on each major of Node with the
 * newest PostgreSQL, and on each PostgreSQL with the oldest Node. Prints a table and ends with exit code 1 unless all passed.
 * Default: the tests that depend on Node or PostgreSQL (below); `--all`: every test. The programs are downloaded from the npm
 * registry and cached in node_modules/.cache/versions.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { downloadNode, downloadPostgres } from './versions/download.js';

/** Tests that depend on PostgreSQL: reads, resume, install, rights, writes. */
const onPostgres = [
  'no-loss',
  'watermark',
  'view',
  'host-view',
  'wake',
  'resume',
  'missed-memory',
  'snapshot',
  'install',
  'install-tables',
  'install-upgrade',
  'doctor',
  'authorize-query',
  'rest-writes',
  'rest-approvals',
  'rest-audit',
].map((name) => `packages/server/test/${name}.test.ts`);

/** Tests that depend on Node: sockets, streams, processes, signals, modules. */
const onNode = [
  ...['plain-dialect', 'v1-channels', 'v1-events', 'event-stream', 'slow-connection', 'drain', 'embedding'],
  ...['serve', 'workers', 'cli', 'tail', 'access-keys', 'http-hostile', 'console-files'],
  ...['socket-writer', 'socket-writer-choice'],
]
  .map((name) => `packages/server/test/${name}.test.ts`)
  .concat(
    ['client', 'real-server', 'streams', 'tabs-state'].map((name) => `packages/client/test/${name}.test.ts`),
  )
  .concat('e2e/packages.test.ts');

const root = fileURLToPath(new URL('../', import.meta.url));
const cache = path.join(root, 'node_modules/.cache/versions');
const { values, positionals } = parseArgs({
  options: {
    all: { type: 'boolean', default: false },
    node: { type: 'string', default: '20,22,24' },
    postgres: { type: 'string', default: '14,15,16,17,18' },
  },
  allowPositionals: true,
});
const nodes = majors('--node', values.node);
const databases = majors('--postgres', values.postgres);

/**
 * @param {string} option
 * @param {string} text
 */
function majors(option, text) {
  const numbers = text.split(',').map(Number);
  if (numbers.every((number) => Number.isInteger(number) && number > 0))
    return numbers.toSorted((one, other) => one - other);
  console.error(`versions: ${option} takes major versions separated by commas, such as 20,22, not "${text}"`);
  return process.exit(2);
}

/**
 * Runs the tests and reads vitest's report.
 *
 * @param {string} nodeFolder
 * @param {string} postgresFolder
 * @param {readonly string[]} files empty: all tests
 */
async function runTests(nodeFolder, postgresFolder, files) {
  const folder = await mkdtemp(path.join(tmpdir(), 'flagcast-versions-'));
  const report = path.join(folder, 'report.json');
  const bin = path.join(nodeFolder, 'bin');
  try {
    const tests = spawn(path.join(bin, 'node'), ['node_modules/vitest/vitest.mjs', 'run', ...files], {
      cwd: root,
      stdio: 'inherit',
      env: {
        ...process.env,
        PATH: `${bin}${path.delimiter}${process.env['PATH'] ?? ''}`,
        FLAGCAST_TEST_REPORT: report,
        FLAGCAST_TEST_POSTGRES: postgresFolder,
      },
    });
    const [code] = /** @type {[number | null]} */ (await once(tests, 'exit'));
    const { numPassedTests: passed, numFailedTests: failed } =
      /** @type {{ numPassedTests: number; numFailedTests: number }} */ (
        /** @type {unknown} */ (JSON.parse(await readFile(report, 'utf8')))
      );
    // A test file that cannot be loaded has no failed test.
    return { passed, failed: code === 0 ? failed : Math.max(failed, 1) };
  } finally {
    await rm(folder, { recursive: true });
  }
}

/** @param {readonly string[]} files */
function chosen(files) {
  if (positionals.length > 0) return positionals;
  return values.all ? [] : files;
}

const [oldestNode = 20] = nodes;
const newestPostgres = databases.at(-1) ?? 18;
const pairs = [
  ...nodes.map((node) => ({ node, postgres: newestPostgres, files: onNode })),
  ...databases
    .filter((postgres) => postgres !== newestPostgres)
    .map((postgres) => ({ node: oldestNode, postgres, files: onPostgres })),
];
const rows = [];
for (const pair of pairs) {
  const node = await downloadNode(pair.node, cache);
  const postgres = await downloadPostgres(pair.postgres, cache);
  const database = postgres.version.replace(/\.\d+-.*$/, '');
  console.log(`Node ${node.version}, PostgreSQL ${database}`);
  const startedAtMs = performance.now();
  const { passed, failed } = await runTests(node.folder, postgres.folder, chosen(pair.files));
  const seconds = Math.round((performance.now() - startedAtMs) / 1_000);
  if (failed > 0) process.exitCode = 1;
  rows.push(`| ${node.version} | ${database} | ${passed} | ${failed} | ${seconds} s |`);
}
console.log(
  ['| Node | PostgreSQL | passed | failed | duration |', '| --- | --- | --- | --- | --- |', ...rows].join(
    '\n',
  ),
);
