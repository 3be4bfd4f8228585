import { describe, expect, it } from 'vitest';
import { ConnectionLimits } from '../../src/connections/connection-limits.js';

const code = (expected: string): unknown => expect.objectContaining({ status: 429, code: expected });

describe('ConnectionLimits', () => {
  it('allow a user the exact number of connections, from any address', () => {
    const limits = new ConnectionLimits({ perUser: 2 });
    expect(limits.acquire('u', 'a')).toBeTypeOf('function');
    expect(limits.acquire('u', 'b')).toBeTypeOf('function');
    expect(() => limits.acquire('u', 'c')).toThrow(code('too_many_user'));
    expect(limits.acquire('v', 'c')).toBeTypeOf('function');
  });

  it('allow an address the exact number of connections, for any user', () => {
    const limits = new ConnectionLimits({ perAddress: 2 });
    expect(limits.acquire('u', 'a')).toBeTypeOf('function');
    expect(limits.acquire('v', 'a')).toBeTypeOf('function');
    expect(() => limits.acquire('w', 'a')).toThrow(code('too_many_address'));
    expect(limits.acquire('w', 'b')).toBeTypeOf('function');
  });

  it('do not count a refused connection', () => {
    const limits = new ConnectionLimits({ perUser: 1, perAddress: 2 });
    const release = limits.acquire('u', 'a');
    for (let i = 0; i < 5; i += 1) expect(() => limits.acquire('u', 'a')).toThrow(code('too_many_user'));
    expect(limits.acquire('v', 'a')).toBeTypeOf('function');
    for (let i = 0; i < 5; i += 1) expect(() => limits.acquire('w', 'a')).toThrow(code('too_many_address'));
    expect(limits.acquire('w', 'b')).toBeTypeOf('function');
    release();
    expect(limits.acquire('u', 'a')).toBeTypeOf('function');
  });

  it('count a connection that is released several times once', () => {
    const limits = new ConnectionLimits({ perUser: 2 });
    const release = limits.acquire('u', 'a');
    expect(limits.acquire('u', 'a')).toBeTypeOf('function');
    for (let i = 0; i < 3; i += 1) release();
    expect(limits.acquire('u', 'a')).toBeTypeOf('function');
    expect(() => limits.acquire('u', 'a')).toThrow(code('too_many_user'));
  });

  it('allow 100 connections for each user and 1,000 for each address by default', () => {
    const limits = new ConnectionLimits();
    for (let i = 0; i < 100; i += 1) expect(limits.acquire('u', 'a')).toBeTypeOf('function');
    expect(() => limits.acquire('u', 'a')).toThrow(code('too_many_user'));
    for (let i = 0; i < 900; i += 1) expect(limits.acquire(`v${i}`, 'a')).toBeTypeOf('function');
    expect(() => limits.acquire('w', 'a')).toThrow(code('too_many_address'));
  });

  it('count the /64 network of an IPv6 address, because one machine has all its addresses', () => {
    const limits = new ConnectionLimits({ perAddress: 2 });
    expect(limits.acquire('u', '2001:db8:0:1::1')).toBeTypeOf('function');
    expect(limits.acquire('v', '2001:DB8::1:ffff:0:0:1')).toBeTypeOf('function');
    expect(() => limits.acquire('w', '2001:db8:0:1:2:3:4:5')).toThrow(code('too_many_address'));
    expect(limits.acquire('w', '2001:db8:0:2::1')).toBeTypeOf('function');
    expect(limits.acquire('w', '::1')).toBeTypeOf('function');
  });

  it.each([0, -1, 1.5, Number.NaN, Number.POSITIVE_INFINITY])('reject a limit of %d', (limit) => {
    expect(() => new ConnectionLimits({ perUser: limit })).toThrow('The limit on connections per user');
    expect(() => new ConnectionLimits({ perAddress: limit })).toThrow('The limit on connections per address');
  });
});
