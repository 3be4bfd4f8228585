import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { build } from 'esbuild';
import { measureDependencies } from './install-size.js';
import { listPackages } from './pack.js';

const root = new URL('../../', import.meta.url);

/** Entries of the client, with the source of each. */
const clientEntries = {
  '@flagcast/client': 'index.ts',
  '@flagcast/client/approvals': 'approvals/index.ts',
  '@flagcast/client/tabs': 'tabs/index.ts',
  '@flagcast/client/presence': 'presence/index.ts',
  '@flagcast/client/presence/react': 'presence/react.ts',
  '@flagcast/client/react': 'react/index.ts',
  '@flagcast/client/query': 'query/index.ts',
};

/**
 * Measures everything that sizes.json limits, under the same names, from the current build. In bytes.
 *
 * @param {readonly import('./pack.js').Described[]} [packed] the packages; default: npm describes them
 * @returns {Promise<Record<'gzipped' | 'unpacked' | 'installed', Record<string, number>>>}
 */
export async function measureSizes(packed) {
  const entries = await Promise.all(
    Object.entries(clientEntries).map(async ([name, file]) => [name, await bundleSize(file)]),
  );
  const packages = packed ?? (await listPackages());
  const dependencies = await measureDependencies();
  const ownBytes = packages
    .filter(({ name }) => ['flagcast', '@flagcast/client', '@flagcast/protocol'].includes(name))
    .reduce((sum, { unpackedSize }) => sum + unpackedSize, 0);
  return {
    gzipped: {
      .../** @type {Record<string, number>} */ (Object.fromEntries(entries)),
      'first page of the console': firstLoadSize(),
    },
    unpacked: Object.fromEntries(packages.map(({ name, unpackedSize }) => [name, unpackedSize])),
    installed: { 'flagcast and its dependencies': dependencies.bytes + ownBytes },
  };
}

/**
 * The size of an entry of the client as a page loads it: bundled without its peers, minified, gzipped.
 *
 * @param {string} file
 */
async function bundleSize(file) {
  const bundle = await build({
    entryPoints: [fileURLToPath(new URL(`packages/client/src/${file}`, root))],
    ...{ bundle: true, minify: true, format: 'esm', target: 'es2022', write: false },
    external: ['react', '@tanstack/query-core'],
  });
  return gzippedSize(bundle.outputFiles[0]?.contents ?? '');
}

/** What the browser loads before the console shows the sign-in page or the flags. */
function firstLoadSize() {
  const folder = new URL('packages/console/app/', root);
  const page = readFileSync(new URL('index.html', folder), 'utf8');
  const files = [...page.matchAll(/(?:src|href)="\.\/(assets\/[^"]+)"/g)].flatMap(([, file]) => file ?? []);
  return ['index.html', ...files]
    .map((file) => gzippedSize(readFileSync(new URL(file, folder))))
    .reduce((sum, bytes) => sum + bytes, 0);
}

/** @param {string | Uint8Array} content */
function gzippedSize(content) {
  return gzipSync(content, { level: 9 }).length;
}
