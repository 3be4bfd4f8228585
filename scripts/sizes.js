// npm run sizes: prints the sizes of the packages as the table of docs/PACKAGES.md.
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { measureDependencies } from './packages/install-size.js';
import { packAll } from './packages/pack.js';

const folder = await mkdtemp(path.join(tmpdir(), 'flagcast-sizes-'));
try {
  console.log('| package | tarball | unpacked | files |\n| --- | --- | --- | --- |');
  for (const { name, size, unpackedSize, files } of await packAll(folder)) {
    const [tarball, unpacked] = [size, unpackedSize].map((bytes) => `${Math.ceil(bytes / 1_000)} kB`);
    console.log(`| \`${name}\` | ${tarball ?? ''} | ${unpacked ?? ''} | ${files.length} |`);
  }
  const { packages, bytes } = await measureDependencies();
  console.log(`\nDependencies of flagcast: ${packages.length} packages, ${(bytes / 1e6).toFixed(1)} MB`);
} finally {
  await rm(folder, { recursive: true });
}
