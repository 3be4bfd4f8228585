import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { expect, it } from 'vitest';

const run = promisify(execFile);
const root = fileURLToPath(new URL('..', import.meta.url));

async function errorsOf(program: string, args: readonly string[]): Promise<string> {
  const { stderr } = await run(program, args, { cwd: root, env: { ...process.env, NO_COLOR: '1' } }).catch(
    (error: unknown) => error as { stderr: string },
  );
  return stderr;
}

it('api.txt of each package equals its public declarations', async () => {
  expect(await errorsOf(process.execPath, ['scripts/api.js', '--check'])).toBe('');
});

it('every public entry, and every export of one, has a docstring', async () => {
  // The checks of docs/tsconfig.json, which also find broken links, without writing the pages.
  expect(await errorsOf('npm', ['run', '--silent', 'api', '-w', 'docs', '--', '--emit', 'none'])).toBe('');
});
