/**
 * `npm test`: the checks (types, lint, format, unused code, packages) and the tests beside each other. The tests
 * mostly wait, for databases, browsers and processes, and the checks use what they leave of the processors. What
 * the checks have to say comes when they are done.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { text } from 'node:stream/consumers';

/** @returns {Promise<boolean>} whether nothing was found */
async function check() {
  const checks = spawn('npm run --silent check:built 2>&1', {
    shell: true,
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const exited = /** @type {Promise<[number | null]>} */ (once(checks, 'exit'));
  const [[code], said] = await Promise.all([exited, text(checks.stdout)]);
  console.log(code === 0 ? 'check: nothing found' : `check failed:\n${said}`);
  return code === 0;
}

/** @returns {Promise<boolean>} whether all passed */
async function runTests() {
  const tests = spawn('vitest', ['run', ...process.argv.slice(2)], {
    stdio: ['ignore', 'inherit', 'inherit'],
  });
  const exited = /** @type {Promise<[number | null]>} */ (once(tests, 'exit'));
  const [code] = await exited;
  return code === 0;
}

const results = await Promise.all([check(), runTests()]);
if (results.includes(false)) {
  console.error('npm test: something failed; see above');
  process.exitCode = 1;
}
