import { expect, it, onTestFinished, vi } from 'vitest';
import { WebSocket } from 'ws';
import { createClient } from '../../src/index.js';
import { respondJson } from './scripted-server.js';
import { channelArguments, startFixture, untilConnection, untilStatus } from './client-fixture.js';

it.each(['localhost:8080', 'ftp://flags.example.com', 'flags.example.com', '', null as unknown as string])(
  'createClient throws bad_url for %s',
  (url) => {
    expect(() => createClient({ url, getToken: () => 'token' })).toThrow(
      expect.objectContaining({ code: 'bad_url' }),
    );
  },
);

it('an address without a scheme is no path of the page', () => {
  vi.stubGlobal('location', { href: 'http://localhost:5173/' });
  onTestFinished(() => void vi.unstubAllGlobals());
  expect(() => createClient({ url: '127.0.0.1:8080', getToken: () => 'token' })).toThrow(
    expect.objectContaining({ code: 'bad_url' }),
  );
});

it.each([
  ['a WebSocket', (url: string) => `${url.replace('http', 'ws')}/api/ws`],
  ['a WebSocket without its path', (url: string) => url.replace('http', 'ws')],
  ['the API', (url: string) => `${url}/api/`],
])('the address of %s is understood as the address of the server', async (_what, urlOf) => {
  const { server, connect } = await startFixture();
  const channel = connect({ url: urlOf(server.url) }).channel(channelArguments);
  await (await server.connections.next()).accept('c1');
  await untilStatus(channel, 'live');
  const requests = [...server.upgrades.all, ...server.snapshots.all].map(({ url }) => url);
  expect(requests).toEqual(['/api/ws', '/api/snapshot?project_id=p1&env=prod']);
});

it('an address with the path of a page is refused by its server, and the error has the address', async () => {
  const { server, connect, errors } = await startFixture();
  server.respondToSnapshot = (response) => {
    server.respondToSnapshot = null;
    respondJson(response, 404, { code: 'not_found', message: 'There is nothing at this path' });
  };
  const channel = connect({ url: `${server.url}/projects/7` }).channel(channelArguments);
  await (await server.connections.next()).accept('c1');
  await untilStatus(channel, 'live');
  expect(errors).toMatchObject([
    {
      code: 'not_found',
      message: `${server.url}/projects/7/api/snapshot?project_id=p1&env=prod answered with 404: is url the address of the server?`,
    },
  ]);
});

it('a path is resolved when the first channel is opened, not when a server creates the client', async () => {
  const { server, connect } = await startFixture();
  const client = connect({ url: '/' });
  expect(() => client.channel(channelArguments)).toThrow(expect.objectContaining({ code: 'bad_url' }));
  vi.stubGlobal('location', { href: `${server.url}/page` });
  onTestFinished(() => void vi.unstubAllGlobals());
  const channel = client.channel(channelArguments);
  await (await server.connections.next()).accept('c1');
  await untilStatus(channel, 'live');
});

it.each([null, undefined, '', '<h1>Sign in, please</h1>', 7])(
  'the client ends with bad_token if getToken returns %j',
  async (token) => {
    const { server, connect } = await startFixture();
    const client = connect({ getToken: () => token as string });
    client.channel(channelArguments);
    const status = await untilConnection(client, 'closed');
    expect(status.state === 'closed' && status.error).toMatchObject({ code: 'bad_token' });
    expect(server.upgrades.all).toHaveLength(0);
  },
);

it('a client without a WebSocket class (null) uses server-sent events, although there is a global class', async () => {
  const { server, connect } = await startFixture();
  vi.stubGlobal('WebSocket', WebSocket);
  onTestFinished(() => void vi.unstubAllGlobals());
  const client = connect({ WebSocket: null });
  client.channel(channelArguments);
  await server.streams.next();
  expect(client.getStatus().transport).toBe('sse');
  expect(server.upgrades.all).toHaveLength(0);
});

it('null for fetch is the global function, as undefined is', async () => {
  const { server, connect, errors } = await startFixture();
  const channel = connect({ fetch: null }).channel(channelArguments);
  await (await server.connections.next()).accept('c1');
  await untilStatus(channel, 'live');
  expect(errors).toEqual([]);
});
