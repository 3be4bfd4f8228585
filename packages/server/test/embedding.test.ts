import { once } from 'node:events';
import type { Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { WebSocket, WebSocketServer } from 'ws';
import { createHost as createExpressHost } from '../examples/express.js';
import { createHost as createFastifyHost } from '../examples/fastify.js';
import { createHost as createNestHost } from '../examples/nest.js';
import { createHost as createNodeHost } from '../examples/node-http.js';
import { signForName } from '../src/cli/token.js';
import { EventStreamClient } from '../../../testing/testkit/clients/event-stream-client.ts';
import { createOtherHost, type OtherHost } from './other-host.js';
import { handshake, PlainClient } from './plain-client.js';
import { testSecret } from './server.js';
import { V1Client } from './v1-client.js';

let host: OtherHost;
const closing: (() => Promise<unknown>)[] = [];

beforeAll(async () => {
  host = await createOtherHost();
});

afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

afterAll(async () => {
  await host.drop();
});

const kinds = ['node-http', 'express', 'fastify', 'nest'] as const;

interface Running {
  readonly server: Server;
  readonly url: string;
  /** The headers that identify a user. */
  readonly headersOf: (user: string) => Promise<Record<string, string>>;
  readonly close: () => Promise<unknown>;
}

async function start(kind: (typeof kinds)[number]): Promise<Running> {
  let server: Server;
  let close: () => Promise<unknown>;
  if (kind === 'fastify') {
    const app = createFastifyHost(host.url, testSecret);
    await app.listen({ port: 0, host: '127.0.0.1' });
    ({ server } = app);
    close = async () => await app.close();
  } else if (kind === 'nest') {
    const { app, close: closeApp } = await createNestHost(host.url, testSecret);
    await app.listen(0, '127.0.0.1');
    server = app.getHttpServer();
    close = closeApp;
  } else {
    ({ server, close } =
      kind === 'express' ? createExpressHost(host.url) : createNodeHost(host.url, testSecret));
    await once(server.listen(0, '127.0.0.1'), 'listening');
  }
  let closed: Promise<unknown> | null = null;
  const closeOnce = async (): Promise<unknown> => await (closed ??= close());
  closing.push(closeOnce);
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  // Before the first read there is no cursor.
  await expect.poll(async () => (await fetch(`${url}/readyz`)).status).toBe(200);
  return {
    server,
    url,
    close: closeOnce,
    headersOf: async (user) => {
      if (kind !== 'express') {
        return { Authorization: `Bearer ${await signForName(testSecret, user, 600_000)}` };
      }
      const response = await fetch(`${url}/login`, {
        method: 'POST',
        headers: { 'Content-Type': 'application/json' },
        body: JSON.stringify({ name: user }),
      });
      return { Cookie: (response.headers.get('set-cookie') ?? '').split(';')[0] ?? '' };
    },
  };
}

async function text(url: string): Promise<string> {
  const response = await fetch(url);
  return `${response.status} ${await response.text()}`;
}

describe.each(kinds)('Flagcast in a server of %s', (kind) => {
  it('delivers events to authorized users through every entry point', async () => {
    const { url, headersOf } = await start(kind);
    const wsUrl = `${url.replace('http', 'ws')}/api/ws`;
    const query = { project_id: 'shop', env: 'prod' };
    const headers = await headersOf('ada');
    const plain = await PlainClient.connect(wsUrl, query, { headers });
    const client = await V1Client.connect(wsUrl, { query, headers });
    await client.control('caught_up');
    const flag = await host.change('shop');
    await plain.received(({ entity_id: id }) => id === flag);
    await client.event(flag);

    const projects = await fetch(`${url}/api/projects`, { headers });
    expect(await projects.json()).toMatchObject({ projects: [{ id: 'shop' }] });
    const snapshot = await fetch(`${url}/api/snapshot?project_id=shop&env=prod`, { headers });
    expect(snapshot.status).toBe(200);
    const stream = await EventStreamClient.open(url, query, headers);
    await stream.control('caught_up');
    stream.response.destroy();

    const others = await headersOf('bob');
    await expect(PlainClient.connect(wsUrl, query, { headers: others })).rejects.toMatchObject({
      status: 403,
    });
    await expect(PlainClient.connect(wsUrl, query)).rejects.toMatchObject({ status: 401 });
    expect(
      (await handshake(wsUrl, 'project_id=shop&env=prod', { ...headers, Origin: 'https://evil.example' }))
        .status,
    ).toBe(403);
    await plain.close();
    await client.close();
  });

  it('leaves other paths and 404 responses to the host', async () => {
    const { url } = await start(kind);
    if (kind !== 'express') expect(await text(`${url}/`)).toBe('200 The host');
    expect(await text(`${url}/nothing`)).toMatch(/^404 .*(The host has no such page|Cannot GET|Route GET)/s);
    expect(await text(`${url}/api/nothing`)).toMatch(
      /^404 .*(The host has no such page|Cannot GET|Route GET)/s,
    );
    expect(await text(`${url}/healthz`)).toBe('200 {"status":"ok"}');
    expect(await text(`${url}/api/ws`)).toMatch(/^426 .*upgrade_required/);
  });

  it('leaves WebSockets on other paths to the host', async () => {
    const { server, url } = await start(kind);
    const wsUrl = url.replace('http', 'ws');
    // Nest's example has a gateway of its own, whose listener destroys the sockets of all other paths.
    if (kind !== 'nest') {
      expect(await handshake(`${wsUrl}/chat`, '')).toMatchObject({ status: 404 });
      const chat = new WebSocketServer({ noServer: true });
      server.on('upgrade', (request, socket, head) => {
        if (request.url !== '/chat') return;
        chat.handleUpgrade(request, socket, head, (peer) => peer.on('message', () => peer.send('welcome')));
      });
    }
    const guest = new WebSocket(`${wsUrl}/chat`);
    await once(guest, 'open');
    guest.send('{"event":"hello"}');
    const [message] = (await once(guest, 'message')) as [Buffer];
    expect(message.toString()).toContain('welcome');
    guest.terminate();
    expect(await handshake(`${wsUrl}/api/ws`, 'project_id=shop&env=prod')).toMatchObject({ status: 401 });
  });

  it('closes its WebSockets and streams with the close code', async () => {
    const { url, headersOf, close } = await start(kind);
    const headers = await headersOf('ada');
    const client = await V1Client.connect(`${url.replace('http', 'ws')}/api/ws`, { headers });
    const stream = await EventStreamClient.open(url, { project_id: 'shop', env: 'prod' }, headers);
    const closed = close();
    expect((await client.closed).code).toBe(4000);
    expect(await stream.ended).toBe(true);
    expect(stream.messages.at(-1)).toMatchObject({ type: 'close', code: 4000 });
    await closed;
    await expect(fetch(`${url}/healthz`)).rejects.toThrow();
  });
});
