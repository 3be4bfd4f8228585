import type { KeyObject } from 'node:crypto';
import { inspect } from 'node:util';
import { SignJWT } from 'jose';
import { expect } from 'vitest';
import type { TokenVerifier } from '../src/auth/token-verifier.js';
import { HttpProblem } from '../src/http-problem.js';

/** Claims of any type, as a forger may write them. */
export type TestClaims = Record<string, unknown>;

export const SECRET = 'a secret of more than thirty-two bytes';
/** The time when this module was loaded. Test files share it, so a test may run an hour later. */
export const NOW_S = Math.floor(Date.now() / 1_000);
/** Valid claims; override them or sign with another key to make invalid ones. */
export const CLAIMS: TestClaims = {
  userId: 7,
  username: 'ada.lovelace',
  type: 'access',
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

/** Expects a refusal with this code, and no part of the token or its claims in the error. */
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
