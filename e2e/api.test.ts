import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { expect, it } from 'vitest';

const root = fileURLToPath(new URL('..', import.meta.url));

it('api.txt of each package equals its public declarations, and every entry and export has a docstring', async () => {
  const { stderr } = await promisify(execFile)(process.execPath, ['scripts/api.js', '--check'], {
    cwd: root,
    env: { ...process.env, NO_COLOR: '1' },
  }).catch((error: unknown) => error as { stderr: string });
  expect(stderr).toBe('');
});
