/**
 * `npm run mutations [-- --only NAME]`: applies each mutation of scripts/mutations to a copy of the repository, one at a time,
 * and runs the tests that must fail. Ends with exit code 1 unless every mutation is caught. First the same tests run on the
 * unchanged code, where they must pass.
 */
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { breakText } from './mutations/break-text.js';
import { mutations } from './mutations/table.js';
import { Sandbox } from './mutations/sandbox.js';

/** @import { Mutation } from './mutations/table.js' */

/** Time-outs of a test on unchanged and on mutated code, in milliseconds. */
const unchangedLimitMs = 60_000;
const mutatedLimitMs = 30_000;

const { values } = parseArgs({ options: { only: { type: 'string', multiple: true } } });
const chosen = mutations.filter(({ name }) => values.only?.includes(name) ?? true);
const unknown = (values.only ?? []).filter((name) => !mutations.some((mutation) => mutation.name === name));
if (unknown.length > 0) {
  console.error(`mutations: unknown: ${unknown.join(', ')}; see the names in scripts/mutations`);
  process.exit(2);
}

const stop = new AbortController();
for (const name of /** @type {const} */ (['SIGINT', 'SIGTERM'])) {
  process.once(name, () => stop.abort(new Error(`ended by ${name}`)));
}
const sandbox = await Sandbox.create(fileURLToPath(new URL('../', import.meta.url)), stop.signal);
try {
  const files = [...new Set(chosen.flatMap(({ tests }) => tests))];
  console.log(`${files.length} test files on the unchanged code ...`);
  const before = await sandbox.runTests(files, unchangedLimitMs);
  if (!before.passed) throw new Error(`The tests fail without a mutation: ${before.firstFailure}`);
  let caught = 0;
  for (const mutation of chosen) {
    const startedAtMs = performance.now();
    const { isCaught, detail } = await apply(mutation);
    if (isCaught) caught += 1;
    const seconds = Math.round((performance.now() - startedAtMs) / 1_000);
    console.log(
      `${isCaught ? 'caught  ' : 'SURVIVED'} ${mutation.name} (${seconds} s)\n         ${mutation.broken}`,
    );
    console.log(`         ${detail}`);
  }
  console.log(`${caught} of ${chosen.length} mutations caught`);
  if (caught < chosen.length) process.exitCode = 1;
} catch (error) {
  console.error(`mutations: ${error instanceof Error ? error.message : String(error)}`);
  process.exitCode = 1;
} finally {
  await sandbox.remove();
}

/** @param {Mutation} mutation */
async function apply({ edits, tests }) {
  /** @type {Map<string, string>} */
  const originals = new Map();
  try {
    for (const { file, find, replace } of edits) {
      const content = await sandbox.read(file);
      if (!originals.has(file)) originals.set(file, content);
      await sandbox.write(file, breakText(content, find, replace, file));
    }
    const compileError = await sandbox.compile();
    if (compileError !== null) return { isCaught: false, detail: `it does not compile: ${compileError}` };
    const { passed, firstFailure } = await sandbox.runTests(tests, mutatedLimitMs);
    return {
      isCaught: !passed,
      detail: passed ? `no test of ${tests.join(', ')} failed` : `by: ${firstFailure}`,
    };
  } finally {
    for (const [file, content] of originals) await sandbox.write(file, content);
  }
}
