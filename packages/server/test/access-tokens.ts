import type { KeyObject } from 'node:crypto';
import { inspect } from 'node:util';
import { SignJWT } from 'jose';
import { expect } from 'vitest';
import type { TokenVerifier } from '../src/auth/token-verifier.js';
import { HttpProblem } from '../src/http-problem.js';

/** Claims of any type, as a forger may write them. */
export type TestClaims = Record<string, unknown>;

export const SECRET = 'a secret of more than thirty-two bytes';
export const NOW_S = Math.floor(Date.now() / 1_000);
/** Good claims; sign them with another key, or over them, to make bad ones. */
export const CLAIMS: TestClaims = {
  userId: 7,
  username: 'ada.lovelace',
  type: 'access',
  // Test files share this module, and all of them together may take a while.
  exp: NOW_S + 3_600,
  jti: 'one',
};

export async function sign(
  payload: TestClaims,
  key: Uint8Array | KeyObject = Buffer.from(SECRET),
  header: { alg: string; [name: string]: unknown } = { alg: 'HS256' },
): Promise<string> {
  return await new SignJWT(payload).setProtectedHeader(header).sign(key);
}

export function encode(part: object): string {
  return Buffer.from(JSON.stringify(part)).toString('base64url');
}

/** Refused with this code, and nothing of the error shows any part of the token or of what it says. */
export async function expectRefused(
  verifier: TokenVerifier,
  token: string,
  code: string,
): Promise<HttpProblem> {
  const error: unknown = await verifier.verify(token).catch((reason: unknown) => reason);
  if (!(error instanceof HttpProblem)) throw new Error(`not refused with a HttpProblem: ${inspect(error)}`);
  expect(error.code).toBe(code);
  expect(error.message).not.toContain('\n');
  const shown = inspect(error, { depth: null, maxStringLength: null, showHidden: true });
  expect(shown).not.toContain('lovelace');
  for (const part of [token, ...token.split('.')]) {
    if (part.length > 3) expect(shown.includes(part)).toBe(false);
  }
  return error;
}
