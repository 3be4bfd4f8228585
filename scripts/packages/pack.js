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
  'packages/relay-nats',
  'packages/demo',
  'packages/io-uring',
];

/**
 * @typedef {object} Packed
 * @property {string} name e.g. `@flagcast/client`
 * @property {string} folder in the repository
 * @property {string} tarball the file
 * @property {number} size bytes of the tarball
 * @property {number} unpackedSize bytes
 * @property {{ readonly path: string, readonly mode: number }[]} files
 */

/**
 * Creates the tarballs that would be published from the current build.
 *
 * @param {string} destination an existing folder
 * @returns {Promise<Packed[]>}
 */
export async function packAll(destination) {
  const workspaces = folders.flatMap((folder) => ['--workspace', folder]);
  const options = ['--json', '--ignore-scripts', '--pack-destination', destination];
  const { stdout } = await promisify(execFile)('npm', ['pack', ...workspaces, ...options], { cwd: root });
  const parsed = /** @type {unknown} */ (JSON.parse(stdout));
  // npm 11 prints an object by name, npm 10 a list.
  const packed = /** @type {(Omit<Packed, 'folder' | 'tarball'> & { filename: string })[]} */ (
    Object.values(/** @type {object} */ (parsed))
  );
  return await Promise.all(
    folders.map(async (folder) => {
      const { name } = /** @type {{ name: string }} */ (
        JSON.parse(await readFile(path.join(root, folder, 'package.json'), 'utf8'))
      );
      const found = packed.find((each) => each.name === name);
      if (found === undefined) throw new Error(`npm pack created no tarball of ${name}`);
      // npm 9 prints another file name for a scoped package than it writes.
      const tarball = path.join(destination, found.filename.replace(/^@/, '').replaceAll('/', '-'));
      return { ...found, folder, tarball };
    }),
  );
}
