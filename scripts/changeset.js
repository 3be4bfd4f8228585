/**
 * `npm run changeset [-- add|status|version]`: runs changesets. Our packages are peers of each other in one exact version, and
 * changesets counts a peer that leaves its range as a breaking change: every release would be a major one. So the ranges are `*`
 * while it runs, and the versions of the packages afterwards. `version` moves the texts of the changesets to CHANGELOG.md.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

/** @typedef {{ name: string, version: string, peerDependencies?: Record<string, string> }} Manifest */

const root = new URL('../', import.meta.url);
const changesets = new URL('.changeset/', root);
const manifests = readdirSync(new URL('packages', root))
  .map((name) => new URL(`packages/${name}/package.json`, root))
  .filter((file) => existsSync(file));

/** @param {URL} file */
function readManifest(file) {
  const manifest = /** @type {unknown} */ (JSON.parse(readFileSync(file, 'utf8')));
  return /** @type {Manifest} */ (manifest);
}

/** @param {string | null} range null: the version of the package */
function setPeers(range) {
  const versions = new Map(manifests.map(readManifest).map(({ name, version }) => [name, version]));
  for (const file of manifests) {
    const manifest = readManifest(file);
    for (const name of Object.keys(manifest.peerDependencies ?? {})) {
      const version = versions.get(name);
      if (version !== undefined) Object.assign(manifest.peerDependencies ?? {}, { [name]: range ?? version });
    }
    writeFileSync(file, `${JSON.stringify(manifest, null, 2)}\n`);
  }
}

/** The texts of the changesets as items of a list, breaking ones first. */
function readTexts() {
  const files = readdirSync(changesets).filter((name) => name.endsWith('.md') && name !== 'README.md');
  const texts = files.map((name) => {
    const [, text = ''] =
      /^---\n[^]*?\n---\n([^]*)$/.exec(readFileSync(new URL(name, changesets), 'utf8')) ?? [];
    return text.trim();
  });
  return texts
    .toSorted((one, other) => Number(other.startsWith('Breaking')) - Number(one.startsWith('Breaking')))
    .map((text) => `- ${text.replaceAll('\n', '\n  ')}\n`);
}

const args = process.argv.slice(2);
const texts = readTexts();
setPeers('*');
try {
  const program = fileURLToPath(new URL('node_modules/.bin/changeset', root));
  process.exitCode = spawnSync(program, args, { cwd: root, stdio: 'inherit' }).status ?? 1;
} finally {
  setPeers(null);
}

if (args[0] === 'version' && process.exitCode === 0 && texts.length > 0) {
  const { version } = readManifest(new URL('packages/server/package.json', root));
  const changelog = new URL('CHANGELOG.md', root);
  const before = readFileSync(changelog, 'utf8');
  writeFileSync(
    changelog,
    before.replace(/^## /m, () => `## ${version}\n\n${texts.join('')}\n## `),
  );
}
