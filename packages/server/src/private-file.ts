import { constants, open } from 'node:fs/promises';
import { describeError } from './describe.js';

/**
 * The text of a file that holds a secret; null if there is no file.
 *
 * @throws Error if it cannot be read, is a symbolic link, belongs to another user than `owner`, or others have access.
 */
export async function readPrivateFile(file: string, owner = process.geteuid?.()): Promise<string | null> {
  try {
    // Without O_NONBLOCK, open would wait for a writer of a named pipe.
    const handle = await open(file, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    try {
      const { mode, uid } = await handle.stat();
      if (owner !== undefined && uid !== owner) {
        throw new Error(
          `${file} belongs to user ${uid}, and user ${owner} does not trust it: run this as user ${uid}, or delete the file`,
        );
      }
      if ((mode & 0o077) !== 0) {
        throw new Error(`${file} holds a secret that other users can read or write: run "chmod 600 ${file}"`);
      }
      return await handle.readFile('utf8');
    } finally {
      await handle.close();
    }
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? error.code : null;
    if (code === 'ENOENT' || code === 'ENOTDIR') return null;
    if (code === 'ELOOP')
      throw new Error(`${file} is a symbolic link: put the file itself there`, { cause: error });
    if (code === null) throw error;
    throw new Error(
      `${file} cannot be read (${describeError(error)}): run this as the user who runs flagcast serve`,
      { cause: error },
    );
  }
}
