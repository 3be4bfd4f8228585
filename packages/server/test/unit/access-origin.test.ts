import type { IncomingHttpHeaders } from 'node:http';
import { describe, expect, it } from 'vitest';
import { createOriginPolicy } from '../../src/auth/origin-policy.js';

function isAllowed(allowed: string[], origin: string | undefined, host?: string): boolean {
  const headers: IncomingHttpHeaders = {};
  if (origin !== undefined) headers.origin = origin;
  if (host !== undefined) headers.host = host;
  return createOriginPolicy(allowed).isAllowed({ headers, socket: {} });
}

describe('the origin policy', () => {
  it('allows requests without an Origin header, which do not come from browsers', () => {
    expect(isAllowed([], undefined, 'flags.example.com')).toBe(true);
  });

  it.each([
    ['https://flags.example.com', 'flags.example.com'],
    ['https://flags.example.com', 'flags.example.com:443'],
    ['http://flags.example.com', 'flags.example.com:80'],
    ['https://Flags.Example.com', 'FLAGS.example.COM'],
    ['http://localhost:8080', 'localhost:8080'],
    ['http://[::1]:8080', '[0:0:0:0:0:0:0:1]:8080'],
    ['https://xn--bcher-kva.example', 'bücher.example'],
  ])('allows a page of its own host: %s on %s', (origin, host) => {
    expect(isAllowed([], origin, host)).toBe(true);
  });

  it.each([
    ['https://evil.example', 'flags.example.com'],
    ['https://flags.example.com.evil.example', 'flags.example.com'],
    ['https://evil.example', 'flags.example.com@evil.example'],
    ['https://evil.example', 'evil.example/x'],
    ['http://flags.example.com:8080', 'flags.example.com:8081'],
    ['http://flags.example.com:8080', 'flags.example.com'],
    ['https://flags.example.com', undefined],
    ['https://flags.example.com', ''],
    ['chrome-extension://flags.example.com', 'flags.example.com'],
    ['null', 'null'],
    ['', 'flags.example.com'],
    ['flags.example.com', 'flags.example.com'],
    ['https://', 'flags.example.com'],
    ['https://flags.example.com/page', 'flags.example.com'],
    ['https://user@flags.example.com', 'flags.example.com'],
    ['https://flags.example.com https://evil.example', 'flags.example.com'],
  ])('refuses %j on host %j', (origin, host) => {
    expect(isAllowed([], origin, host)).toBe(false);
  });

  it('allows exactly the listed origins, compared as URLs', () => {
    const allowed = ['https://App.example.com', 'http://localhost:5173/', 'https://port.example:443'];
    expect(isAllowed(allowed, 'https://app.example.com', 'api')).toBe(true);
    expect(isAllowed(allowed, 'HTTPS://APP.EXAMPLE.COM', 'api')).toBe(true);
    expect(isAllowed(allowed, 'https://app.example.com:443', 'api')).toBe(true);
    expect(isAllowed(allowed, 'https://port.example', 'api')).toBe(true);
    expect(isAllowed(allowed, 'http://localhost:5173', 'api')).toBe(true);

    expect(isAllowed(allowed, 'http://app.example.com', 'api')).toBe(false);
    expect(isAllowed(allowed, 'https://app.example.com:8443', 'api')).toBe(false);
    expect(isAllowed(allowed, 'https://sub.app.example.com', 'api')).toBe(false);
    expect(isAllowed(allowed, 'http://localhost', 'api')).toBe(false);
  });

  it('allows a browser extension that is listed', () => {
    const allowed = ['chrome-extension://abcdef'];
    expect(isAllowed(allowed, 'chrome-extension://abcdef', 'api')).toBe(true);
    expect(isAllowed(allowed, 'chrome-extension://other', 'api')).toBe(false);
    expect(isAllowed(allowed, 'null', 'api')).toBe(false);
  });

  it('allows a page without an origin only if `null` is listed', () => {
    expect(isAllowed(['https://app.example.com'], 'null', 'api')).toBe(false);
    expect(isAllowed(['null'], 'null', 'api')).toBe(true);
    expect(isAllowed(['null'], 'https://app.example.com', 'api')).toBe(false);
  });

  it('allows every page for `*`', () => {
    for (const origin of ['https://evil.example', 'null', 'junk']) {
      expect(isAllowed(['*'], origin, 'api')).toBe(true);
    }
  });

  it.each([
    '',
    'app.example.com',
    'https://app.example.com/path',
    'https://*.example.com:x',
    'https://a@b',
    '*.com',
  ])('refuses %j in the list with the accepted format', (entry) => {
    expect(() => createOriginPolicy([entry])).toThrow(
      `${JSON.stringify(entry)} is not an origin: write scheme://host`,
    );
  });

  it('refuses an invalid URL in every call, also after URL.canParse was optimized', () => {
    // As node:http gives the bytes of a header: latin1.
    const origin = Buffer.from('https://fla💥').toString('latin1');
    for (let count = 0; count < 12_000; count += 1) {
      if (isAllowed([], origin, 'flags.example.com')) throw new Error('it is allowed');
    }
  });
});
