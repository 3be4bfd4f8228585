import { readdir, readFile, stat } from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../../', import.meta.url));

/**
 * @typedef {object} LockedPackage an entry of package-lock.json
 * @property {Record<string, string>} [dependencies]
 * @property {boolean} [hasInstallScript]
 * @property {string} [resolved] of a link: the folder of the workspace
 * @property {boolean} [link]
 */

/**
 * What `npm install flagcast` adds besides the packages of this repository, by the lock file: its third-party packages,
 * their bytes on disk, and which of them run install scripts.
 *
 * @returns {Promise<{ packages: string[], bytes: number, withInstallScripts: string[] }>}
 */
export async function measureDependencies() {
  const text = await readFile(path.join(root, 'package-lock.json'), 'utf8');
  const { packages: locked } = /** @type {{ packages: Record<string, LockedPackage> }} */ (JSON.parse(text));
  /** @type {Set<string>} */
  const found = new Set();
  /** @type {[from: string, name: string][]} */
  const queue = [['', 'flagcast']];
  for (const [from, name] of queue) {
    const place = resolve(locked, from, name);
    if (found.has(place)) continue;
    found.add(place);
    queue.push(
      ...Object.keys(locked[place]?.dependencies ?? {}).map(
        (next) => /** @type {[string, string]} */ ([place, next]),
      ),
    );
  }
  const packages = [...found].filter((place) => place.startsWith('node_modules/'));
  const sizes = await Promise.all(packages.map(async (place) => await bytesIn(path.join(root, place))));
  return {
    packages,
    bytes: sizes.reduce((sum, bytes) => sum + bytes, 0),
    withInstallScripts: packages.filter((place) => locked[place]?.hasInstallScript === true),
  };
}

/**
 * The place in the lock file of a dependency, as Node resolves it: the nearest node_modules wins.
 *
 * @param {Record<string, LockedPackage>} locked
 * @param {string} from
 * @param {string} name
 * @returns {string}
 */
function resolve(locked, from, name) {
  for (let folder = from; ; folder = folder.slice(0, Math.max(0, folder.lastIndexOf('/node_modules/')))) {
    const place = `${folder === '' ? '' : `${folder}/`}node_modules/${name}`;
    const entry = locked[place];
    if (entry !== undefined)
      return entry.link === true && entry.resolved !== undefined ? entry.resolved : place;
    if (folder === '')
      throw new Error(`package-lock.json has no ${name}, which ${from} needs: run npm install`);
  }
}

/**
 * @param {string} folder
 * @returns {Promise<number>}
 */
async function bytesIn(folder) {
  const entries = await readdir(folder, { withFileTypes: true });
  const sizes = await Promise.all(
    entries.map(async (entry) => {
      if (entry.name === 'node_modules') return 0;
      const file = path.join(folder, entry.name);
      return entry.isDirectory() ? await bytesIn(file) : (await stat(file)).size;
    }),
  );
  return sizes.reduce((sum, bytes) => sum + bytes, 0);
}
