/**
 * `npm run mutations [-- --only NAME]`: loads the code with each mutation of guarantees.ts, one at a time, and runs the test
 * file that must fail. Ends with exit code 1 unless every mutation is caught. First the same files run without a mutation,
 * where they must pass. Nothing is written: vitest replaces the text when it loads the file.
 */
import { tmpdir } from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { startVitest, type Vite } from 'vitest/node';
import config from '../../vitest.config.ts';
import { type Guarantee, guarantees, mutate } from './guarantees.ts';

const root = path.resolve(import.meta.dirname, '../..');
const temporaryFolder = tmpdir();

/** Loads the file of the mutation with its replacement. */
function mutationPlugin(mutation: Guarantee): Vite.Plugin {
  return {
    name: 'mutation',
    enforce: 'pre',
    transform: (code, id) => (id === path.join(root, mutation.file) ? mutate(code, mutation) : null),
  };
}

const { test: { projects: _, ...test } = {}, ...vite } = config;
const options = {
  ...test,
  include: ['packages/*/test/**/*.test.ts'],
  globalSetup: ['packages/server/test/cluster.setup.ts'],
  ...{ root, config: false as const, watch: false, reporters: [{}], bail: 1 },
  // A test that fails only once, on a busy machine, does not count.
  retry: 1,
  // Many a mutation makes its test wait for a message that does not come.
  testTimeout: 60_000,
};

/** The first failure of the files, or null if all tests pass. */
async function firstFailure(files: readonly string[], mutation?: Guarantee): Promise<string | null> {
  const plugins = mutation === undefined ? [] : [mutationPlugin(mutation)];
  const vitest = await startVitest('test', [...files], options, { ...vite, plugins });
  try {
    const modules = vitest.state.getTestModules();
    if (modules.length < files.length)
      throw new Error(`only ${modules.length} of ${files.length} test files ran`);
    const failed = modules
      .flatMap((module) => [...module.children.allTests('failed')])
      .map((test) => `${test.fullName}: ${test.result().errors?.[0]?.message.split('\n', 1)[0] ?? ''}`);
    const errors = modules.flatMap((module) => module.errors()).map(({ message }) => message);
    return failed[0] ?? errors[0] ?? null;
  } finally {
    await vitest.close();
    // The set-up of the tests has pointed it to a folder that no longer exists.
    process.env['TMPDIR'] = temporaryFolder;
  }
}

const { values } = parseArgs({ options: { only: { type: 'string', multiple: true } } });
const chosen = guarantees.filter(({ name }) => values.only?.includes(name) ?? true);
if (chosen.length < (values.only?.length ?? 1)) {
  console.error(`mutations: unknown name; the names are ${guarantees.map(({ name }) => name).join(', ')}`);
  process.exit(2);
}
const files = [...new Set(chosen.map((mutation) => mutation.test))];
console.log(`${files.length} test files without a mutation ...`);
const failure = await firstFailure(files);
if (failure !== null) {
  console.error(`mutations: the tests fail without a mutation: ${failure}`);
  process.exit(1);
}
let survivors = 0;
for (const mutation of chosen) {
  const caughtBy = await firstFailure([mutation.test], mutation);
  if (caughtBy === null) survivors += 1;
  console.log(`${caughtBy === null ? 'SURVIVED' : 'caught  '} ${mutation.name}: ${mutation.effect}`);
  console.log(
    `         ${[...mutation.numbers, mutation.promise].join(' ')}\n         ${caughtBy ?? `no test of ${mutation.test} failed`}`,
  );
}
console.log(`${chosen.length - survivors} of ${chosen.length} mutations caught`);
// Vitest has set it, because tests failed.
process.exitCode = survivors > 0 ? 1 : 0;
