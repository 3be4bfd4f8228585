/**
 * `node scripts/audit.js`: runs npm audit on the run-time dependencies, and fails on high and critical vulnerabilities. If the
 * registry is not available (no network), it prints one line and does not fail.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { text } from 'node:stream/consumers';

/** @typedef {{ severity: string; range: string }} Vulnerability */

/** Time-out of npm audit, in milliseconds; after it the registry counts as unavailable. */
const timeoutMs = 20_000;

const audit = spawn(
  'npm',
  ['audit', '--omit=dev', '--json', '--fetch-retries=0', `--fetch-timeout=${timeoutMs / 2}`],
  { stdio: ['ignore', 'pipe', 'ignore'], timeout: timeoutMs },
);
const exited = once(audit, 'exit');
const [report] = await Promise.all([text(audit.stdout), exited]);
const vulnerabilities = parseReport(report);
if (typeof vulnerabilities === 'string') {
  console.log(`audit: skipped, the registry is not available (${vulnerabilities})`);
} else {
  const severe = Object.entries(vulnerabilities).filter(([, { severity }]) =>
    /^(high|critical)$/.test(severity),
  );
  for (const [name, { severity, range }] of severe) console.error(`audit: ${name} ${range}: ${severity}`);
  if (severe.length > 0) {
    console.error('audit: update these packages, see npm audit --omit=dev');
    process.exitCode = 1;
  }
}

/**
 * Returns the vulnerabilities by package, or the reason why npm reported none.
 *
 * @param {string} json
 * @returns {Record<string, Vulnerability> | string}
 */
function parseReport(json) {
  /** @type {{ vulnerabilities?: Record<string, Vulnerability>; message?: string; error?: { summary?: string } }} */
  let parsed;
  try {
    const value = /** @type {unknown} */ (JSON.parse(json));
    parsed = /** @type {typeof parsed} */ (value);
  } catch {
    return 'npm audit did not answer';
  }
  return parsed.vulnerabilities ?? parsed.message ?? parsed.error?.summary ?? 'npm audit gave no reason';
}
