/**
 * `npm test`: runs the checks (types, lint, format, unused code, packages) and the tests in parallel. The tests mostly wait for
 * databases, browsers and processes, so the checks use the idle processors. Their output is printed when they have finished.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { text } from 'node:stream/consumers';

/** @returns {Promise<boolean>} whether the checks passed */
async function check() {
  const checks = spawn('npm run --silent check:built 2>&1', {
    shell: true,
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const exited = /** @type {Promise<[number | null]>} */ (once(checks, 'exit'));
  const [[code], output] = await Promise.all([exited, text(checks.stdout)]);
  console.log(code === 0 ? 'check: passed' : `check failed:\n${output}`);
  return code === 0;
}

/** @returns {Promise<boolean>} whether the tests passed */
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
  console.error('npm test: failed; see above');
  process.exitCode = 1;
}
