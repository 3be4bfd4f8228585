import { chmod, chown, mkdir, rm, stat, symlink, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { beforeEach, describe, expect, it, onTestFinished } from 'vitest';
import { chmodItself } from '../../demo/src/embedded/embedded-account.js';
import { runHere } from './command.js';
import { createTestFolder } from './database.js';
import { useClusters } from './embedded-clusters.js';

const isRoot = process.geteuid?.() === 0;
const otherUid = 12_345;
const secret = 'a secret of at least thirty-two bytes';

let folder: string;
let file: string;

beforeEach(async () => {
  folder = await createTestFolder();
  onTestFinished(async () => await rm(folder, { recursive: true }));
  file = path.join(folder, 'jwt-secret');
});

async function signToken(): Promise<{ code: number | null; stderr: string }> {
  const { code, stderr } = await runHere(['token', '--user', '1'], { FLAGCAST_DATA_DIR: folder });
  return { code, stderr };
}

describe('the secret of a data folder', () => {
  it('signs tokens if only its owner can read it', async () => {
    await writeFile(file, secret, { mode: 0o600 });
    // It may be of another demo than the one that runs.
    const stderr = `flagcast: No server uses the data folder ${folder} now: for one with another folder, set FLAGCAST_DATA_DIR\n`;
    expect(await signToken()).toStrictEqual({ code: 0, stderr });
  });

  it.each(['644', '640', '602'])('is refused with the mode %s, with the fix', async (mode) => {
    await writeFile(file, secret);
    await chmod(file, Number.parseInt(mode, 8));
    expect(await signToken()).toStrictEqual({
      code: 1,
      stderr: `flagcast: ${file} holds a secret that other users can read or write: run "chmod 600 ${file}"\n`,
    });
  });

  it('is refused if it is a symbolic link', async () => {
    const target = path.join(folder, 'elsewhere');
    await writeFile(target, secret, { mode: 0o600 });
    await symlink(target, file);
    expect(await signToken()).toStrictEqual({
      code: 1,
      stderr: `flagcast: ${file} is a symbolic link: put the file itself there\n`,
    });
  });

  it.runIf(isRoot)('is refused if it belongs to another user', async () => {
    await writeFile(file, secret, { mode: 0o600 });
    await chown(file, otherUid, otherUid);
    const { code, stderr } = await signToken();
    expect({ code, stderr }).toMatchObject({
      code: 1,
      stderr: expect.stringContaining(`${file} belongs to user ${otherUid}`) as string,
    });
  });
});

describe('the data folder of the embedded PostgreSQL', () => {
  const { clusterCopy, refusal } = useClusters();

  it('is refused if other users can write to it, with the fix', async () => {
    const dataDir = await clusterCopy();
    await chmod(dataDir, 0o777);
    const { code, message } = await refusal(dataDir);
    expect({ code, message }).toMatchObject({
      code: 'unreachable',
      message: expect.stringContaining(`run "chmod go-w ${dataDir}"`) as string,
    });
  });

  it.runIf(isRoot)('is refused if it belongs to another user', async () => {
    const dataDir = await clusterCopy();
    await chown(dataDir, otherUid, otherUid);
    const { message } = await refusal(dataDir);
    expect(message).toContain(`${dataDir} belongs to user ${otherUid}`);
  });

  it('is refused if other users can read its password', async () => {
    const dataDir = await clusterCopy();
    await chmod(path.join(dataDir, 'password'), 0o644);
    const { message } = await refusal(dataDir);
    expect(message).toContain(`run "chmod 600 ${path.join(dataDir, 'password')}"`);
  });

  it('gets its modes without following a symbolic link', async () => {
    const [target, link] = [path.join(folder, 'target'), path.join(folder, 'link')];
    await mkdir(target, { mode: 0o700 });
    await symlink(target, link);
    await expect(chmodItself(link, 0o755)).rejects.toMatchObject({ code: 'ELOOP' });
    expect((await stat(target)).mode & 0o777).toBe(0o700);
  });
});
