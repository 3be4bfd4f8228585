import { randomBytes, scrypt, timingSafeEqual } from 'node:crypto';
import { once } from 'node:events';
import { createRequire } from 'node:module';
import { Worker } from 'node:worker_threads';

/** scrypt's cost, block size and parallelism. */
export interface ScryptCost {
  readonly N: number;
  readonly r: number;
  readonly p: number;
}

/** OWASP's recommendation: about 0.4 s of a core and 128 MiB for one hash. */
export const owaspCost: ScryptCost = { N: 131_072, r: 8, p: 1 };
const saltBytes = 16;
const hashBytes = 32;
/** A stored hash may not take more memory, so that a row cannot exhaust the process. */
const memoryLimitBytes = 144 * 1024 * 1024;
/** A bcrypt hash of a higher cost takes more than a second in JavaScript. Togglr's have 10. */
const maxBcryptCost = 14;

function derive(password: string, salt: Buffer, length: number, cost: ScryptCost): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    // Unicode has several spellings of one text; the same keys on another keyboard must match.
    const text = password.normalize('NFKC');
    scrypt(text, salt, length, { ...cost, maxmem: memoryLimitBytes }, (error, hash) => {
      if (error === null) resolve(hash);
      else reject(error);
    });
  });
}

/** Hashes with a new salt: `scrypt$N$r$p$salt$hash`, the last two in base64. */
export async function hashPassword(password: string, cost = owaspCost): Promise<string> {
  const salt = randomBytes(saltBytes);
  const hash = await derive(password, salt, hashBytes, cost);
  return ['scrypt', cost.N, cost.r, cost.p, salt.toString('base64'), hash.toString('base64')].join('$');
}

/**
 * Whether `stored` is the scrypt hash of `password`, compared in constant time. False, never an error, for another
 * scheme, the placeholder of a locked account, junk, or a hash that needs more than 144 MiB.
 */
export async function verifyPassword(password: string, stored: string): Promise<boolean> {
  const parsed = parseHash(stored);
  if (parsed === null || parsed.hash.length < hashBytes) return false;
  try {
    return timingSafeEqual(await derive(password, parsed.salt, parsed.hash.length, parsed.cost), parsed.hash);
  } catch {
    // scrypt rejects the cost.
    return false;
  }
}

/** Whether a guess at `stored` is cheaper than at a hash of this cost. */
export function isOutdated(stored: string, { N, r, p }: ScryptCost): boolean {
  const cost = parseHash(stored)?.cost;
  return cost !== undefined && cost.N * cost.r * cost.p < N * r * p;
}

function parseHash(stored: string): { cost: ScryptCost; salt: Buffer; hash: Buffer } | null {
  const match = /^scrypt\$(\d{1,7})\$(\d{1,2})\$(\d)\$([A-Za-z0-9+/]+={0,2})\$([A-Za-z0-9+/]+={0,2})$/.exec(
    stored,
  );
  if (match === null) return null;
  const [, N, r, p, salt = '', hash = ''] = match;
  return {
    cost: { N: Number(N), r: Number(r), p: Number(p) },
    salt: Buffer.from(salt, 'base64'),
    hash: Buffer.from(hash, 'base64'),
  };
}

/** Whether `verifyBcrypt` can check `stored`. */
export function isBcrypt(stored: string): boolean {
  const cost = Number(/^\$2[aby]\$(\d\d)\$[./A-Za-z0-9]{53}$/.exec(stored)?.[1]);
  return cost >= 4 && cost <= maxBcryptCost;
}

/** In a thread: bcrypt takes about 50 ms at cost 10, and events must not wait. */
const bcryptProgram = `
  const { parentPort, workerData } = require('node:worker_threads');
  const { compareSync } = require(workerData.bcryptjs);
  parentPort.postMessage(compareSync(workerData.password, workerData.hash));
`;

/** Whether `hash`, of which `isBcrypt` is true, is the one of `password`. Rejects if the thread fails. */
export async function verifyBcrypt(password: string, hash: string): Promise<boolean> {
  const bcryptjs = createRequire(import.meta.url).resolve('bcryptjs');
  const worker = new Worker(bcryptProgram, { eval: true, workerData: { bcryptjs, password, hash } });
  try {
    const [matches] = (await once(worker, 'message')) as [boolean];
    return matches;
  } finally {
    await worker.terminate();
  }
}
