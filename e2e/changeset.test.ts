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

it('npm run version gives all packages the next minor version, also as peers, and moves the changesets to CHANGELOG.md', async () => {
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
  await writeFile(
    path.join(copy, '.changeset', 'ours.md'),
    `---\n'@flagcast/client': minor\n---\n\nOur text.\n`,
  );
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
  expect(changelog).toMatch(
    new RegExp(`\\n## ${next.replaceAll('.', '\\.')}\\n\\n- [^]*- Our text\\.\\n[^]*\\n## `),
  );
});
