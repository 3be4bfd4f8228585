import { execFile } from 'node:child_process';
import { cp, mkdtemp, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { expect, it, onTestFinished } from 'vitest';

const root = fileURLToPath(new URL('../', import.meta.url));

interface PackageManifest {
  readonly name: string;
  readonly version: string;
  readonly dependencies?: Readonly<Record<string, string>>;
  readonly peerDependencies?: Readonly<Record<string, string>>;
}

/** A copy of what `npm run changeset` reads, in a temporary folder. */
async function copyWorkspace(): Promise<{ readonly copy: string; readonly folders: readonly string[] }> {
  const copy = await mkdtemp(path.join(tmpdir(), 'flagcast-release-'));
  onTestFinished(async () => await rm(copy, { recursive: true }));
  const folders = (await readdir(path.join(root, 'packages'))).map((name) => `packages/${name}`);
  for (const file of [
    'package.json',
    'package-lock.json',
    'CHANGELOG.md',
    '.changeset',
    'scripts/changeset.js',
  ])
    await cp(path.join(root, file), path.join(copy, file), { recursive: true });
  for (const folder of folders)
    await cp(path.join(root, folder, 'package.json'), path.join(copy, folder, 'package.json'));
  await symlink(path.join(root, 'node_modules'), path.join(copy, 'node_modules'));
  return { copy, folders };
}

it('npm run changeset -- status succeeds when no package has changed', async () => {
  const { copy } = await copyWorkspace();
  const changesets = path.join(copy, '.changeset');
  for (const name of await readdir(changesets))
    if (name.endsWith('.md')) await rm(path.join(changesets, name));
  const run = promisify(execFile);
  await run('git', ['init', '--quiet', '--initial-branch=main'], { cwd: copy });
  await run('git', ['add', '.'], { cwd: copy });
  const author = ['-c', 'user.name=ada', '-c', 'user.email=ada@example.com'];
  await run('git', [...author, 'commit', '--quiet', '--message=All'], { cwd: copy });
  // In CI its text has colours between the words.
  const env = { ...process.env, NO_COLOR: '1' };
  const { stdout } = await run(process.execPath, ['scripts/changeset.js', 'status'], { cwd: copy, env });
  expect(stdout).toContain('NO packages to be bumped');
});

it('npm run version gives all packages the next minor version, also as peers, and moves the changesets to CHANGELOG.md', async () => {
  const { copy, folders } = await copyWorkspace();
  const changesets = {
    'a-client': `---\n'@flagcast/client': minor\n---\n\nOur text.\n`,
    'b-breaking': `---\n'flagcast': minor\n---\n\nBreaking: **Yours** changes.\n`,
    'c-console': `---\n'flagcast': patch\n---\n\n### Console\n\n- One.\n- Two.\n\n### Upgrade\n\nDo this.\n`,
    'd-server': `---\n'flagcast': minor\n'@flagcast/client': minor\n---\n\nBoth.\n\nMore.\n`,
  };
  for (const [name, text] of Object.entries(changesets))
    await writeFile(path.join(copy, '.changeset', `${name}.md`), text);
  const manifests = async (): Promise<PackageManifest[]> =>
    await Promise.all(
      folders.map(
        async (folder) =>
          JSON.parse(await readFile(path.join(copy, folder, 'package.json'), 'utf8')) as PackageManifest,
      ),
    );

  const [major, minor = 0] = String((await manifests())[0]?.version)
    .split('.')
    .map(Number);
  await promisify(execFile)(process.execPath, ['scripts/changeset.js', 'version'], { cwd: copy });

  const next = `${major ?? ''}.${minor + 1}.0`;
  const released = await manifests();
  const names = released.map(({ name }) => name);
  for (const { name, version, dependencies, peerDependencies } of released) {
    expect(version, name).toBe(next);
    const ours = Object.entries({ ...dependencies, ...peerDependencies }).filter(([each]) =>
      names.includes(each),
    );
    for (const [dependency, range] of ours) expect(range, `${name}: ${dependency}`).toBe(next);
  }
  expect((await readdir(path.join(copy, '.changeset'))).toSorted()).toEqual(['README.md', 'config.json']);
  const changelog = await readFile(path.join(copy, 'CHANGELOG.md'), 'utf8');
  const [, release = ''] = changelog.split(/^## /m);
  expect(release.startsWith(`${next}\n\n### Upgrade\n\n`)).toBe(true);
  const headings = ['Upgrade', 'Breaking changes', 'Server', 'Console', 'Client'];
  expect([...release.matchAll(/^### (.*)$/gm)].map(([, heading]) => heading)).toEqual(headings);
  const parts = Object.fromEntries(
    release
      .split(/^### /m)
      .map((part) => [part.split('\n', 1)[0] ?? '', part.split('\n').slice(2).join('\n')]),
  );
  expect(parts['Upgrade']).toContain('Do this.\n');
  expect(parts['Breaking changes']).toContain('- **Yours** changes.\n');
  expect(parts['Server']).toContain('- Both.\n\n  More.\n');
  expect(parts['Console']).toContain('- One.\n- Two.\n');
  expect(parts['Client']).toContain('- Our text.\n');
});
