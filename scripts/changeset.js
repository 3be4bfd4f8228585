/**
 * `npm run changeset [-- add|status|version]`: runs changesets. Our packages are peers of each other in one exact version, and
 * changesets counts a peer that leaves its range as a breaking change: every release would be a major one. So the ranges are `*`
 * while it runs, and the versions of the packages afterwards. `version` moves the texts of the changesets to
 * CHANGELOG.md.
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

/** The parts of a release in CHANGELOG.md, in this order. */
const sections = ['Upgrade', 'Breaking changes', 'Server', 'Console', 'Client'];

/** The section of a text without a heading: that of the only packages that it names, else the server. */
function sectionOf(/** @type {string} */ header, /** @type {string} */ text) {
  if (text.startsWith('Breaking:') || text.startsWith('Console:')) {
    return text.startsWith('Breaking:') ? 'Breaking changes' : 'Console';
  }
  const names = [...header.matchAll(/^['"]?([@\w/-]+)['"]?:/gm)].map(([, name = '']) => name);
  const isOnly = (/** @type {string[]} */ ...some) => names.every((name) => some.includes(name));
  if (isOnly('@flagcast/console')) return 'Console';
  return isOnly('@flagcast/client', '@flagcast/protocol') ? 'Client' : 'Server';
}

/**
 * The text of the release: the sections of all changesets (`### Name`), and texts without a heading as items at the end of
 * theirs.
 */
function readRelease() {
  const texts = new Map(sections.map((section) => [section, /** @type {string[]} */ ([])]));
  /** @type {[section: string, item: string][]} */
  const items = [];
  const add = (/** @type {string} */ section, /** @type {string} */ text) => {
    const known = texts.get(section);
    if (known === undefined) throw new Error(`.changeset: ${section} is not one of ${sections.join(', ')}`);
    known.push(text);
  };
  for (const name of readdirSync(changesets).toSorted()) {
    if (!name.endsWith('.md') || name === 'README.md') continue;
    const file = readFileSync(new URL(name, changesets), 'utf8');
    const [, header = '', body = ''] = /^---\n([^]*?)\n---\n([^]*)$/.exec(file) ?? [];
    const [text = '', ...parts] = `\n${body.trim()}`.split(/^### /m);
    for (const part of parts) {
      const [section = '', ...lines] = part.split('\n');
      add(section.trim(), lines.join('\n').trim());
    }
    const item = text.trim();
    if (item !== '') items.push([sectionOf(header, item), item.replace(/^(Breaking|Console): /, '')]);
  }
  for (const [section, item] of items) add(section, `- ${item.replaceAll(/\n(?!\n)/g, '\n  ')}`);
  return [...texts]
    .filter(([, parts]) => parts.length > 0)
    .map(([section, parts]) => `### ${section}\n\n${parts.join('\n')}\n`)
    .join('\n');
}

const args = process.argv.slice(2);
const release = readRelease();
// Without a changeset no version follows from the ranges, and changesets would see packages that have changed.
if (release !== '') setPeers('*');
try {
  const program = fileURLToPath(new URL('node_modules/.bin/changeset', root));
  process.exitCode = spawnSync(program, args, { cwd: root, stdio: 'inherit' }).status ?? 1;
} finally {
  setPeers(null);
}

if (args[0] === 'version' && process.exitCode === 0 && release !== '') {
  const { version } = readManifest(new URL('packages/server/package.json', root));
  const changelog = new URL('CHANGELOG.md', root);
  const before = readFileSync(changelog, 'utf8');
  writeFileSync(
    changelog,
    before.replace(/^## /m, () => `## ${version}\n\n${release}\n## `),
  );
}
