import type { Socket } from 'node:net';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createTrustedProxies, networkOf } from '../src/auth/trusted-proxies.js';
import { createTestDatabase, seedProject, type TestDatabase } from './database.js';
import { EventStreamClient } from '../../../testing/testkit/clients/event-stream-client.ts';
import { handshake } from './plain-client.js';
import { setPassword } from './rest-fixture.js';
import { createUser, nextEvent, startTestServer, type TestServer } from './server.js';

const proxies = ['127.0.0.1', '10.0.0.0/8', '::1', 'fd00::/8'];

/** The client address of a request from `remoteAddress` with this X-Forwarded-For. */
function addressOf(
  remoteAddress: string | undefined,
  forwardedFor?: string | string[],
  trustedProxies = proxies,
): string {
  const headers = forwardedFor === undefined ? {} : { 'x-forwarded-for': forwardedFor };
  return createTrustedProxies(trustedProxies).clientAddress({ headers, socket: { remoteAddress } });
}

describe('the address of a client', () => {
  it.each([
    ['without a proxy', '203.0.113.9', undefined, '203.0.113.9'],
    ['of a socket for IPv4 and IPv6', '::ffff:203.0.113.9', undefined, '203.0.113.9'],
    ['of a proxy that sends no header', '10.1.2.3', undefined, '10.1.2.3'],
    ['behind a proxy', '127.0.0.1', '203.0.113.9', '203.0.113.9'],
    ['behind a proxy, IPv6', '::1', '2001:db8::7', '2001:db8::7'],
    ['behind a proxy on a socket for both', '::ffff:10.1.2.3', '203.0.113.9', '203.0.113.9'],
    ['behind two proxies', '127.0.0.1', '203.0.113.9, 10.1.2.3', '203.0.113.9'],
    ['behind two proxies with a header each', '127.0.0.1', ['203.0.113.9', '10.1.2.3'], '203.0.113.9'],
    ['behind a proxy that adds the port', '127.0.0.1', '203.0.113.9:4711', '203.0.113.9'],
    ['behind a proxy that adds the port, IPv6', '127.0.0.1', '[2001:db8::7]:4711', '2001:db8::7'],
    ['that sends the header itself', '127.0.0.1', '198.51.100.1, 203.0.113.9', '203.0.113.9'],
    ['that is not a proxy and sends the header', '203.0.113.9', '198.51.100.1', '203.0.113.9'],
    ['that is unknown to the proxy', '127.0.0.1', '198.51.100.1, unknown', '127.0.0.1'],
    ['with an empty header', '127.0.0.1', '', '127.0.0.1'],
    ['of the outermost proxy itself', '127.0.0.1', '10.9.9.9, 10.1.2.3', '10.9.9.9'],
    ['of a socket that has ended', undefined, '203.0.113.9', 'unknown'],
  ])('%s', (_, remoteAddress, forwardedFor, expected) => {
    expect(addressOf(remoteAddress, forwardedFor)).toBe(expected);
  });

  it('is the address of the socket if no proxy is trusted', () => {
    expect(addressOf('127.0.0.1', '203.0.113.9', [])).toBe('127.0.0.1');
  });

  it('cannot be chosen by a client that sends a forwarding header of its own', () => {
    fc.assert(
      fc.property(fc.string(), (junk) => {
        expect(addressOf('127.0.0.1', `${junk}, 203.0.113.9`)).toBe('203.0.113.9');
        expect(addressOf('203.0.113.9', junk)).toBe('203.0.113.9');
      }),
    );
  });

  it.each(['nginx', '10.0.0.0/33', '::/129', '10.0.0.0/', '10.0.0.0/8/8', '10.0.0', '10.0.0.0/-1', ''])(
    'rejects the proxy %j',
    (entry) => {
      expect(() => createTrustedProxies([entry])).toThrow(`${JSON.stringify(entry)} is not the address of`);
    },
  );
});

describe('the network for which connections are counted', () => {
  it.each([
    ['192.0.2.7', '192.0.2.7'],
    ['unknown', 'unknown'],
    ['2001:db8:1:2:3:4:5:6', '2001:db8:1:2::/64'],
    ['2001:DB8::6', '2001:db8:0:0::/64'],
    ['2001:0db8:0:0001::', '2001:db8:0:1::/64'],
    ['::1', '0:0:0:0::/64'],
    ['::', '0:0:0:0::/64'],
    ['64:ff9b::192.0.2.7', '64:ff9b:0:0::/64'],
    ['2001:db8::1:2:3:192.0.2.7', '2001:db8:0:1::/64'],
  ])('of %s: %s', (address, counted) => {
    expect(networkOf(address)).toBe(counted);
  });
});

describe('behind a trusted proxy', () => {
  let database: TestDatabase;
  let server: TestServer;
  let token: string;
  let query: Record<string, string>;

  beforeAll(async () => {
    database = await createTestDatabase({ schema: 'tables' });
    ({ token } = await createUser(database.pool, 'root', { superuser: true }));
    query = { project_id: (await seedProject(database.pool)).projectId, env: 'prod' };
    server = await startTestServer(database.url, {
      limits: { connectionsPerAddress: 1 },
      network: { trustedProxies: ['127.0.0.1'] },
    });
  });

  afterAll(async () => {
    await server.close();
    await database.drop();
  });

  it('the limit of an address counts each client of the proxy separately', async () => {
    const sockets: (Socket | null)[] = [];
    const from = (address: string): Record<string, string> => ({
      Authorization: `Bearer ${token}`,
      'X-Forwarded-For': address,
    });
    const open = async (address: string, protocol: Record<string, string> = {}): Promise<number> => {
      const search = new URLSearchParams(query).toString();
      const answer = await handshake(server.wsUrl, search, { ...from(address), ...protocol });
      sockets.push(answer.socket);
      return answer.status;
    };
    const stream = await EventStreamClient.open(server.httpUrl, query, from('203.0.113.1'));
    expect(await open('203.0.113.2')).toBe(101);
    expect(await open('203.0.113.3', { 'Sec-WebSocket-Protocol': 'flagcast.v1' })).toBe(101);
    for (const taken of ['203.0.113.1', '203.0.113.2', '203.0.113.3']) {
      const refused = nextEvent(server.flagcast.lifecycle, 'connection:refused');
      expect(await open(`198.51.100.7, ${taken}`)).toBe(429);
      expect(await refused).toMatchObject({ status: 429, code: 'too_many_address', address: taken });
    }
    for (const socket of sockets) socket?.destroy();
    stream.response.destroy();
  });

  it('failed sign-ins of one client do not block other clients of the proxy', async () => {
    const attempt = async (address: string): Promise<number> => {
      const { status, body } = await fetch(`${server.httpUrl}/api/auth/login`, {
        method: 'POST',
        headers: { 'Content-Type': 'application/json', 'X-Forwarded-For': address },
        body: JSON.stringify({ username: 'root', password: 'wrong' }),
      });
      await body?.cancel();
      return status;
    };
    await setPassword(database.pool, 'root', 'correct horse');
    for (let count = 0; count < 10; count += 1) expect(await attempt('203.0.113.1')).toBe(401);
    expect(await attempt('203.0.113.1')).toBe(429);
    expect(await attempt('203.0.113.2')).toBe(401);
  });
});
