import { randomBytes, scrypt, timingSafeEqual } from 'node:crypto';

/** scrypt's cost, block size and parallelism. */
interface ScryptCost {
  readonly N: number;
  readonly r: number;
  readonly p: number;
}

/** What OWASP recommends: about 0.4 s of a core and 128 MiB for one hash. */
const owaspCost: ScryptCost = { N: 131_072, r: 8, p: 1 };
const saltBytes = 16;
const hashBytes = 32;

/** A stored hash may ask for no more memory than this, so that a row cannot exhaust the process. */
const memoryLimitBytes = 144 * 1024 * 1024;

function derive(password: string, salt: Buffer, length: number, { N, r, p }: ScryptCost): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    // Unicode has several spellings of one text; the same keys on another keyboard must match.
    scrypt(password.normalize('NFKC'), salt, length, { N, r, p, maxmem: memoryLimitBytes }, (error, hash) => {
      if (error === null) resolve(hash);
      else reject(error);
    });
  });
}

/** Hashes with a fresh salt: `scrypt$N$r$p$salt$hash`, the last two in base64. */
export async function hashPassword(password: string, cost = owaspCost): Promise<string> {
  const salt = randomBytes(saltBytes);
  const hash = await derive(password, salt, hashBytes, cost);
  return ['scrypt', cost.N, cost.r, cost.p, salt.toString('base64'), hash.toString('base64')].join('$');
}

/**
 * Whether `password` is the one that `stored` was made from. Takes the same time wherever they
 * differ. False, never an error, for anything that is not such a hash (another scheme, a locked
 * account's placeholder, junk) or that asks for more than 144 MiB.
 */
export async function verifyPassword(password: string, stored: string): Promise<boolean> {
  const parts = partsOf(stored);
  if (parts === null || parts.hash.length < hashBytes) return false;
  try {
    return timingSafeEqual(await derive(password, parts.salt, parts.hash.length, parts.cost), parts.hash);
  } catch {
    // Numbers that scrypt refuses: no password can match.
    return false;
  }
}

/** Whether `stored` costs a guess less than a hash that is made today. */
export function isOutdated(stored: string): boolean {
  const cost = partsOf(stored)?.cost;
  return cost !== undefined && cost.N * cost.r * cost.p < owaspCost.N * owaspCost.r * owaspCost.p;
}

function partsOf(stored: string): { cost: ScryptCost; salt: Buffer; hash: Buffer } | null {
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
