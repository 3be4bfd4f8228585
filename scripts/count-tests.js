/**
 * `node scripts/count-tests.js REPORT STATUS`: prints "N passed, N failed" from the JSON report of vitest. A failed run without
 * a failed test (types, lint, no report) counts as one failure.
 */
import { readFileSync } from 'node:fs';

const [file = '', status = '1'] = process.argv.slice(2);

/** @returns {{ numPassedTests: number; numFailedTests: number }} */
function readReport() {
  try {
    const report = /** @type {unknown} */ (JSON.parse(readFileSync(file, 'utf8')));
    return /** @type {{ numPassedTests: number; numFailedTests: number }} */ (report);
  } catch {
    return { numPassedTests: 0, numFailedTests: 0 };
  }
}

const { numPassedTests, numFailedTests } = readReport();
const failed = numFailedTests === 0 && status !== '0' ? 1 : numFailedTests;
console.log(`${numPassedTests} passed, ${failed} failed`);
