import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readFile, rename, rm } from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { chromium } from 'playwright-core';

/** @import { Browser } from 'playwright-core' */

const packageName = '@sparticuz/chromium';

/**
 * These replace the arguments of the package: its single process ends with the first closed window and lets windows block
 * each other, and it disables web security, which the tests need.
 */
const launchArguments = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
  '--font-render-hinting=none',
];

/**
 * Launches the Chromium of PLAYWRIGHT_CHROMIUM, or the one of the npm package.
 *
 * @returns {Promise<Browser>}
 */
export async function launchChromium() {
  const executablePath = process.env['PLAYWRIGHT_CHROMIUM'] ?? (await unpackChromium());
  return await chromium.launch({ executablePath, args: launchArguments });
}

/**
 * Unpacks Chromium into a new folder and renames it when it is complete. The package itself unpacks into the temporary folder
 * and would use the incomplete files of another process there.
 *
 * @returns {Promise<string>}
 */
async function unpackChromium() {
  const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../..');
  /** @type {unknown} */
  const manifest = JSON.parse(
    await readFile(path.join(root, 'node_modules', packageName, 'package.json'), 'utf8'),
  );
  if (typeof manifest !== 'object' || manifest === null || !('version' in manifest)) {
    throw new Error(`${packageName} has no version: run npm ci`);
  }
  const cache = path.join(root, 'node_modules/.cache');
  const folder = path.join(cache, `chromium-${String(manifest.version)}`);
  const executable = path.join(folder, 'chromium');
  if (existsSync(executable)) return executable;
  await mkdir(cache, { recursive: true });
  const unfinished = await mkdtemp(path.join(cache, 'chromium-unfinished-'));
  try {
    const program = `import('${packageName}').then(({ default: chromium }) => chromium.executablePath())`;
    const env = { ...process.env, TMPDIR: unfinished };
    await promisify(execFile)(process.execPath, ['--eval', program], { cwd: root, env });
    await rename(unfinished, folder);
  } catch (error) {
    // Another process may have unpacked it meanwhile.
    if (!existsSync(executable)) throw error;
  } finally {
    await rm(unfinished, { recursive: true, force: true });
  }
  return executable;
}
