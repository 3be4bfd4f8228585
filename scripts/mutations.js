/**
 * `npm run mutations [-- --only NAME]`: breaks the code in each way that the files in scripts/mutations name, one at a
 * time in a copy of the repository, and runs the tests that must notice. Ends with a table, and with 1 unless every
 * one was caught. Before that the same tests run on the code as it is: what fails anyway notices nothing.
 */
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { breakText } from './mutations/break-text.js';
import { mutations } from './mutations/table.js';
import { Workplace } from './mutations/workplace.js';

/** @import { Mutation } from './mutations/table.js' */

/** How long a test may take, in milliseconds, on the code as it is; and on broken code, which makes some of them wait in vain. */
const usualLimitMs = 60_000;
const brokenLimitMs = 30_000;

const { values } = parseArgs({ options: { only: { type: 'string', multiple: true } } });
const chosen = mutations.filter(({ name }) => values.only?.includes(name) ?? true);
const unknown = (values.only ?? []).filter((name) => !mutations.some((mutation) => mutation.name === name));
if (unknown.length > 0) {
  console.error(
    `mutations: there is no ${unknown.join(', ')}; the files in scripts/mutations have their names`,
  );
  process.exit(2);
}

const stop = new AbortController();
for (const name of /** @type {const} */ (['SIGINT', 'SIGTERM'])) {
  process.once(name, () => stop.abort(new Error(`ended by ${name}`)));
}
const place = await Workplace.create(fileURLToPath(new URL('../', import.meta.url)), stop.signal);
try {
  const files = [...new Set(chosen.flatMap(({ tests }) => tests))];
  console.log(`${files.length} test files, on the code as it is ...`);
  const before = await place.runTests(files, usualLimitMs);
  if (!before.passed) throw new Error(`the tests fail without any mutation: ${before.firstFailure}`);
  let caught = 0;
  for (const mutation of chosen) {
    const startedAtMs = performance.now();
    const { isCaught, how } = await tryOut(mutation);
    if (isCaught) caught += 1;
    const seconds = Math.round((performance.now() - startedAtMs) / 1_000);
    console.log(
      `${isCaught ? 'caught  ' : 'SURVIVED'} ${mutation.name} (${seconds} s)\n         ${mutation.broken}`,
    );
    console.log(`         ${how}`);
  }
  console.log(`${caught} of ${chosen.length} mutations caught`);
  if (caught < chosen.length) process.exitCode = 1;
} catch (error) {
  console.error(`mutations: ${error instanceof Error ? error.message : String(error)}`);
  process.exitCode = 1;
} finally {
  await place.remove();
}

/** @param {Mutation} mutation */
async function tryOut({ edits, tests }) {
  /** @type {Map<string, string>} */
  const originals = new Map();
  try {
    for (const { file, find, replace } of edits) {
      const content = await place.read(file);
      if (!originals.has(file)) originals.set(file, content);
      await place.write(file, breakText(content, find, replace, file));
    }
    const complaint = await place.compile();
    if (complaint !== null) return { isCaught: false, how: `it does not compile: ${complaint}` };
    const { passed, firstFailure } = await place.runTests(tests, brokenLimitMs);
    return {
      isCaught: !passed,
      how: passed ? `no test of ${tests.join(', ')} failed` : `by: ${firstFailure}`,
    };
  } finally {
    for (const [file, content] of originals) await place.write(file, content);
  }
}
