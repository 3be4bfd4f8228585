import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const root = fileURLToPath(new URL('../../', import.meta.url));

/** The folders of the published packages, in the order of their dependencies. */
const folders = [
  'packages/protocol',
  'packages/client',
  'packages/server',
  'packages/console',
  'packages/relay-nats',
  'packages/demo',
  'packages/io-uring',
];

/**
 * @typedef {object} Described
 * @property {string} name e.g. `@flagcast/client`
 * @property {string} folder in the repository
 * @property {string} filename of the tarball
 * @property {number} unpackedSize bytes
 * @property {{ readonly path: string, readonly mode: number }[]} files
 *
 * @typedef {Described & { tarball: string }} Packed with the path of its tarball
 */

/**
 * Creates the tarballs that would be published from the current build.
 *
 * @param {string} destination an existing folder
 * @param {readonly string[]} [chosen] folders of packages; default: all
 * @returns {Promise<Packed[]>}
 */
export async function packInto(destination, chosen = folders) {
  const packed = await pack(chosen, '--pack-destination', destination);
  // npm 9 prints another file name for a scoped package than it writes.
  return packed.map((each) => ({
    ...each,
    tarball: path.join(destination, each.filename.replace(/^@/, '').replaceAll('/', '-')),
  }));
}

/** Describes the tarballs without creating them. */
export async function listPackages() {
  return await pack(folders, '--dry-run');
}

/**
 * @param {readonly string[]} chosen
 * @param {string[]} options
 * @returns {Promise<Described[]>}
 */
async function pack(chosen, ...options) {
  const workspaces = chosen.flatMap((folder) => ['--workspace', folder]);
  const { stdout } = await promisify(execFile)(
    'npm',
    ['pack', ...workspaces, '--json', '--ignore-scripts', ...options],
    { cwd: root },
  );
  const parsed = /** @type {unknown} */ (JSON.parse(stdout));
  // npm 11 prints an object by name, npm 10 a list.
  const packed = /** @type {Omit<Described, 'folder'>[]} */ (Object.values(/** @type {object} */ (parsed)));
  return await Promise.all(
    chosen.map(async (folder) => {
      const { name } = /** @type {{ name: string }} */ (
        JSON.parse(await readFile(path.join(root, folder, 'package.json'), 'utf8'))
      );
      const found = packed.find((each) => each.name === name);
      if (found === undefined) throw new Error(`npm pack created no tarball of ${name}`);
      return { ...found, folder };
    }),
  );
}
