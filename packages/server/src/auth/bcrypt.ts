import { createRequire } from 'node:module';
import { Worker } from 'node:worker_threads';

/** A hash of a higher cost takes more than a second in JavaScript. Togglr's have 10. */
const maxCost = 14;

/** In a thread of its own: bcrypt keeps a core busy for about 50 ms at cost 10, and events must go on meanwhile. */
const program = `
  const { parentPort, workerData } = require('node:worker_threads');
  const { compareSync } = require(workerData.bcryptjs);
  parentPort.postMessage(compareSync(workerData.password, workerData.hash));
`;

/** Whether `stored` is a hash that `verifyBcrypt` can check. */
export function isBcrypt(stored: string): boolean {
  const match = /^\$2[aby]\$(\d\d)\$[./A-Za-z0-9]{53}$/.exec(stored);
  const cost = Number(match?.[1]);
  return cost >= 4 && cost <= maxCost;
}

/** Whether `password` is the one of the hash, which must be one of `isBcrypt`. Rejects if the thread fails. */
export async function verifyBcrypt(password: string, hash: string): Promise<boolean> {
  const bcryptjs = createRequire(import.meta.url).resolve('bcryptjs');
  const worker = new Worker(program, { eval: true, workerData: { bcryptjs, password, hash } });
  try {
    return await new Promise<boolean>((resolve, reject) => {
      worker.once('message', resolve);
      worker.once('error', reject);
    });
  } finally {
    await worker.terminate();
  }
}
