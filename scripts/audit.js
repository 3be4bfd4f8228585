/**
 * `node scripts/audit.js`: asks the registry for known holes in what Flagcast is installed with (not in what it is
 * developed with). Fails on high and critical ones, and names them. A registry that cannot be asked, as on a
 * machine without a network, is told in one line and is no failure.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { text } from 'node:stream/consumers';

/** @typedef {{ severity: string; range: string }} Hole */

/** Within this the registry has answered, in milliseconds, or it is taken for one that cannot be asked. */
const patienceMs = 20_000;

const audit = spawn(
  'npm',
  ['audit', '--omit=dev', '--json', '--fetch-retries=0', `--fetch-timeout=${patienceMs / 2}`],
  { stdio: ['ignore', 'pipe', 'ignore'], timeout: patienceMs },
);
const exited = once(audit, 'exit');
const [said] = await Promise.all([text(audit.stdout), exited]);
const holes = readHoles(said);
if (typeof holes === 'string') {
  console.log(`audit: the registry could not be asked for known holes (${holes}); nothing was checked`);
} else {
  const grave = Object.entries(holes).filter(([, { severity }]) => /^(high|critical)$/.test(severity));
  for (const [name, { severity, range }] of grave) console.error(`audit: ${name} ${range}: ${severity}`);
  if (grave.length > 0) {
    console.error('audit: these have known holes: update them, see npm audit --omit=dev');
    process.exitCode = 1;
  }
}

/**
 * What npm found, by package; or why it found nothing out.
 *
 * @param {string} report
 * @returns {Record<string, Hole> | string}
 */
function readHoles(report) {
  /** @type {{ vulnerabilities?: Record<string, Hole>; message?: string; error?: { summary?: string } }} */
  let parsed;
  try {
    const json = /** @type {unknown} */ (JSON.parse(report));
    parsed = /** @type {typeof parsed} */ (json);
  } catch {
    return 'npm audit did not answer';
  }
  return parsed.vulnerabilities ?? parsed.message ?? parsed.error?.summary ?? 'npm audit gave no reason';
}
