import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { redactUrl, subprotocolsOf, tokenFromRequest } from '../../src/auth/request-token.js';
import { CLAIMS, sign } from '../access-tokens.js';

describe('tokenFromRequest', () => {
  const find = (
    headers: { authorization?: string; 'sec-websocket-protocol'?: string },
    url = '/api/ws',
    allowQueryToken = false,
  ): ReturnType<typeof tokenFromRequest> => tokenFromRequest({ headers, url }, { allowQueryToken });

  it.each(['Bearer abc', 'bearer abc', 'BEARER   abc'])('reads %j', (authorization) => {
    expect(find({ authorization })).toBe('abc');
  });

  it.each(['', 'Bearer', 'Bearer ', 'Basic YTpi', 'Bearerabc', 'abc'])(
    'finds no token in %j',
    (authorization) => {
      expect(find({ authorization })).toBeNull();
    },
  );

  it.each(['bearer.a.b.c', 'flagcast.v1, bearer.a.b.c', 'flagcast.v1,token.a.b.c ', 'bearer., token.a.b.c'])(
    'reads the subprotocols %j',
    (protocols) => {
      expect(find({ 'sec-websocket-protocol': protocols })).toBe('a.b.c');
    },
  );

  it('reads the query string only if that is allowed', () => {
    const url = '/api/ws?project_id=p&token=a.b.c';
    expect(find({}, url)).toBeNull();
    expect(find({}, url, true)).toBe('a.b.c');
    for (const none of ['/api/ws', '/api/ws?', '/api/ws?token=', '/api/ws?tokens=x', '/token=x']) {
      expect(find({}, none, true)).toBeNull();
    }
  });

  it('prefers the header, then the subprotocol', () => {
    const url = '/api/ws?token=q';
    const protocols = { 'sec-websocket-protocol': 'bearer.s' };
    expect(find({ authorization: 'Bearer h', ...protocols }, url, true)).toBe('h');
    expect(find({ authorization: 'Basic YTpi', ...protocols }, url, true)).toBe('s');
  });
});

describe('subprotocolsOf', () => {
  it('keeps the order and omits every token', () => {
    const request = (protocols?: string): Parameters<typeof subprotocolsOf>[0] => ({
      headers: protocols === undefined ? {} : { 'sec-websocket-protocol': protocols },
    });
    expect(subprotocolsOf(request('token.a.b.c, flagcast.v1,bearer.x , other,bearer.'))).toStrictEqual([
      'flagcast.v1',
      'other',
    ]);
    expect(subprotocolsOf(request())).toStrictEqual([]);
  });
});

describe('redactUrl', () => {
  it.each([
    ['/api/ws?project_id=p&env=prod', '/api/ws?project_id=p&env=prod'],
    ['/api/ws?project_id=p&token=SECRET&env=prod', '/api/ws?project_id=p&token=[redacted]&env=prod'],
    ['/api/ws?token=SECRET', '/api/ws?token=[redacted]'],
    ['/api/ws?TOKEN=SECRET&access_token=SECRET', '/api/ws?TOKEN=[redacted]&access_token=[redacted]'],
    ['/api/ws?%74oken=SECRET', '/api/ws?%74oken=[redacted]'],
    ['/api/ws?token=SECRET==&token=SECRET', '/api/ws?token=[redacted]&token=[redacted]'],
    ['http://host/api/ws?token=SECRET', 'http://host/api/ws?token=[redacted]'],
    ['/api/ws?x=%zz&token=SECRET', '/api/ws?x=%zz&token=[redacted]'],
    ['/api/ws?', '/api/ws?'],
    ['/api/ws', '/api/ws'],
    ['', ''],
  ])('%j is logged as %j', (url, logged) => {
    expect(redactUrl(url)).toBe(logged);
  });

  it('hides a JWT anywhere in the URL', async () => {
    const token = await sign(CLAIMS);
    for (const url of [
      `/${token}`,
      `/?x=${token}&y=1`,
      `/?x=y%3D${token}`,
      `/??token=${token}`,
      `/?a;token=${token.replaceAll('.', '%2E')}`,
    ]) {
      const logged = redactUrl(url);
      for (const part of token.split('.')) expect(logged).not.toContain(part);
    }
  });

  it('takes little time for the longest URL that a client can send', () => {
    const url = `/?${'eyJ'.repeat(2_600)}.${'eyJ'.repeat(2_600)}`;
    // Processor time does not depend on the load of the machine.
    const tookUs = Array.from({ length: 5 }, () => {
      const before = process.cpuUsage();
      expect(redactUrl(url)).toBe(url);
      return process.cpuUsage(before).user;
    });
    expect(Math.min(...tookUs)).toBeLessThan(50_000);
  });

  it('hides every token that tokenFromRequest would read', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme-ascii' }), fc.stringMatching(/^[A-Z]{20}$/), (junk, token) => {
        const url = `/api/ws?${junk}&token=${token}`;
        const found = tokenFromRequest({ headers: {}, url }, { allowQueryToken: true });
        if (found === token) expect(redactUrl(url)).not.toContain(token);
      }),
    );
  });
});
