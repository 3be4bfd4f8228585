import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { expect, it } from 'vitest';

it('api.txt of each package equals its public declarations', { timeout: 180_000 }, async () => {
  const script = fileURLToPath(new URL('../scripts/api.js', import.meta.url));
  const { stderr } = await promisify(execFile)(process.execPath, [script, '--check']).catch(
    (error: unknown) => error as { stderr: string },
  );
  expect(stderr).toBe('');
});
