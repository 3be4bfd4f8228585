import { afterEach, describe, expect, it, vi } from 'vitest';
import packageJson from '../../package.json' with { type: 'json' };
import { importPackage, loadConsole, loadDemo, loadRelay, loadSocketWriter } from '../../src/cli/packages.js';

const { version } = packageJson;

afterEach(() => {
  for (const name of ['relay-nats', 'io-uring', 'demo', 'console']) vi.doUnmock(`@flagcast/${name}`);
});

/** The text of the error that a loaded socket writer throws. */
async function reasonOf(): Promise<string> {
  const create = await loadSocketWriter(true);
  try {
    create({} as never);
  } catch (error) {
    return (error as Error).message;
  }
  return '';
}

describe('a package of another version', () => {
  it('without natsRelay is refused in one line with the version to install', async () => {
    vi.doMock('@flagcast/relay-nats', () => ({ natsRelay: undefined }));
    await expect(loadRelay()).rejects.toThrow(
      `The installed version of @flagcast/relay-nats does not fit flagcast ${version}: npm install @flagcast/relay-nats@${version}`,
    );
  });

  it('without startDemo is refused in one line with the version to install', async () => {
    vi.doMock('@flagcast/demo', () => ({ startDemo: undefined }));
    await expect(loadDemo()).rejects.toThrow(`npm install @flagcast/demo@${version}`);
  });

  it('without flagcastConsole is refused in one line with the version to install', async () => {
    vi.doMock('@flagcast/console', () => ({ flagcastConsole: undefined }));
    await expect(loadConsole({ writes: false })).rejects.toThrow(`npm install @flagcast/console@${version}`);
  });

  it('without ioUring is the reason why each connection is written to separately', async () => {
    vi.doMock('@flagcast/io-uring', () => ({ ioUring: undefined }));
    expect(await reasonOf()).toBe(
      `The installed version of @flagcast/io-uring does not fit flagcast ${version}: npm install @flagcast/io-uring@${version}`,
    );
  });

  it('that lacks a package of its own is not said to be missing itself', async () => {
    const importing = importPackage('data:text/javascript,import "file:///missing.js"', 'toString');
    await expect(importing).rejects.toThrow('is installed without a package that it needs: npm install ');
  });

  it('that imports what flagcast no longer exports is refused in the same way', async () => {
    const importing = importPackage('data:text/javascript,import { missing } from "node:fs"', 'toString');
    await expect(importing).rejects.toThrow(`does not fit flagcast ${version}: npm install `);
  });
});
