/**
 * `npm run versions [-- --all] [--node 20.19,22] [--postgres 14,18] [FILE...]`: runs tests on each Node with the newest PostgreSQL,
 * and on each PostgreSQL with the oldest Node. Prints a table and ends with exit code 1 unless all passed. Default: the tests that
 * depend on Node or PostgreSQL (versions/matrix.js), on all supported versions; `--all`: every test. The programs are downloaded from the npm
 * registry and cached in node_modules/.cache/versions; a Node that runs this already is used as it is.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { downloadPostgres, findNode } from './versions/download.js';
import { pairVersions, supportedNode, supportedPostgres, testsOf } from './versions/matrix.js';

const root = fileURLToPath(new URL('../', import.meta.url));
const cache = path.join(root, 'node_modules/.cache/versions');
const { values, positionals } = parseArgs({
  options: {
    all: { type: 'boolean', default: false },
    node: { type: 'string', default: supportedNode.join(',') },
    postgres: { type: 'string', default: supportedPostgres.join(',') },
  },
  allowPositionals: true,
});
const nodes = lines('--node', values.node);
const databases = lines('--postgres', values.postgres);

/**
 * @param {string} option
 * @param {string} text
 */
function lines(option, text) {
  const versions = text.split(',');
  if (versions.every((version) => /^\d+(\.\d+)*$/.test(version)))
    return versions.toSorted((one, other) => one.localeCompare(other, 'en', { numeric: true }));
  console.error(`versions: ${option} takes versions separated by commas, such as 20.19,22, not "${text}"`);
  return process.exit(2);
}

/**
 * Runs the tests and reads vitest's report.
 *
 * @param {string} bin the folder of the program `node`
 * @param {string} postgresFolder
 * @param {readonly string[]} files empty: all tests
 */
async function runTests(bin, postgresFolder, files) {
  const folder = await mkdtemp(path.join(tmpdir(), 'flagcast-versions-'));
  const report = path.join(folder, 'report.json');
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

const rows = [];
for (const pair of pairVersions(nodes, databases)) {
  const chosen = positionals.length > 0 ? positionals : values.all ? [] : testsOf(pair);
  const node = await findNode(pair.node, cache);
  const postgres = await downloadPostgres(pair.postgres, cache);
  const database = postgres.version.replace(/\.\d+-.*$/, '');
  console.log(`Node ${node.version}, PostgreSQL ${database}`);
  const startedAtMs = performance.now();
  const { passed, failed } = await runTests(node.folder, postgres.folder, chosen);
  const seconds = Math.round((performance.now() - startedAtMs) / 1_000);
  if (failed > 0) process.exitCode = 1;
  rows.push(`| ${node.version} | ${database} | ${passed} | ${failed} | ${seconds} s |`);
}
console.log(
  ['| Node | PostgreSQL | passed | failed | duration |', '| --- | --- | --- | --- | --- |', ...rows].join(
    '\n',
  ),
);
