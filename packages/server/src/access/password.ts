import { randomBytes, scrypt, timingSafeEqual } from 'node:crypto';

/** scrypt's cost, block size and parallelism: about 50 ms and 16 MiB for one hash. */
const cost = { N: 16_384, r: 8, p: 1 };
const saltBytes = 16;
const hashBytes = 32;

/** A stored hash may ask for no more memory than this, so that a row cannot exhaust the process. */
const memoryLimitBytes = 64 * 1024 * 1024;

function derive(
  password: string,
  salt: Buffer,
  length: number,
  { N, r, p }: { N: number; r: number; p: number },
): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    // Unicode has several spellings of one text; the same keys on another keyboard must match.
    scrypt(password.normalize('NFKC'), salt, length, { N, r, p, maxmem: memoryLimitBytes }, (error, hash) => {
      if (error === null) resolve(hash);
      else reject(error);
    });
  });
}

/** Hashes with a fresh salt: `scrypt$N$r$p$salt$hash`, the last two in base64. */
export async function hashPassword(password: string): Promise<string> {
  const salt = randomBytes(saltBytes);
  const hash = await derive(password, salt, hashBytes, cost);
  return ['scrypt', cost.N, cost.r, cost.p, salt.toString('base64'), hash.toString('base64')].join('$');
}

/**
 * Whether `password` is the one that `stored` was made from. Takes the same time wherever they
 * differ. False, never an error, for anything that is not such a hash (another scheme, a locked
 * account's placeholder, junk) or that asks for more than 64 MiB.
 */
export async function verifyPassword(password: string, stored: string): Promise<boolean> {
  const match = /^scrypt\$(\d{1,7})\$(\d{1,2})\$(\d)\$([A-Za-z0-9+/]+={0,2})\$([A-Za-z0-9+/]+={0,2})$/.exec(
    stored,
  );
  if (match === null) return false;
  const [, N, r, p, salt = '', hash = ''] = match;
  const expected = Buffer.from(hash, 'base64');
  if (expected.length < hashBytes) return false;
  try {
    const actual = await derive(password, Buffer.from(salt, 'base64'), expected.length, {
      N: Number(N),
      r: Number(r),
      p: Number(p),
    });
    return timingSafeEqual(actual, expected);
  } catch {
    // Numbers that scrypt refuses: no password can match.
    return false;
  }
}
