import { once } from 'node:events';
import { createServer, type IncomingMessage, request, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Duplex } from 'node:stream';
import { describe, expect, it } from 'vitest';
import { en } from '../../packages/console/src/i18n/en.js';
import { flip, waitUntilLive, rowOf, switchOf } from './screen.js';
import {
  listOf,
  pageOf,
  useConsoleFixture,
  type FixtureServer,
  startFixtureServer,
} from './console-fixture.js';

const basePath = '/flagcast';

/** The server behind a proxy that serves it under a path, which it strips or not, and answers 404 to everything else. */
async function startUnderPath(databaseUrl: string, strips: boolean): Promise<FixtureServer> {
  const server = await startFixtureServer(databaseUrl, strips ? {} : { network: { basePath } });
  const forward = ({ method, url = '', headers }: IncomingMessage): ReturnType<typeof request> =>
    request(server.httpUrl, { method, path: strips ? url.slice(basePath.length) : url, headers });
  const proxy = createServer((incoming: IncomingMessage, outgoing: ServerResponse) => {
    if (incoming.url?.startsWith(`${basePath}/`) !== true) {
      outgoing.writeHead(404).end();
      return;
    }
    const forwarded = forward(incoming);
    forwarded.on('response', (answer) => {
      outgoing.writeHead(answer.statusCode ?? 502, answer.headers);
      answer.pipe(outgoing);
    });
    incoming.pipe(forwarded);
  });
  proxy.on('upgrade', (incoming: IncomingMessage, socket: Duplex) => {
    const forwarded = forward(incoming);
    forwarded.on('upgrade', (answer: IncomingMessage, upstream: Duplex) => {
      const lines = answer.rawHeaders.map((text, at) => (at % 2 === 0 ? `${text}: ` : `${text}\r\n`));
      socket.write(`HTTP/1.1 101 Switching Protocols\r\n${lines.join('')}\r\n`);
      for (const end of [socket, upstream]) end.on('error', () => undefined);
      upstream.pipe(socket).pipe(upstream);
    });
    forwarded.end();
  });
  proxy.listen(0, '127.0.0.1');
  await once(proxy, 'listening');
  return {
    httpUrl: `http://127.0.0.1:${(proxy.address() as AddressInfo).port}`,
    close: async () => {
      await server.close();
      proxy.closeAllConnections();
      proxy.close();
    },
  };
}

describe.each([
  ['that strips it', true],
  ['that keeps it, with a base path', false],
])('under a path behind a proxy %s', (_, strips) => {
  const context = useConsoleFixture(async (databaseUrl) => await startUnderPath(databaseUrl, strips));

  it('the console works: sign-in, pages, links, reloads, requests and live changes', async () => {
    const { fixture } = context;
    const flag = await fixture.addFlag();
    const { page } = await fixture.open(null, basePath + listOf(flag, 'dev'), { isOwn: true });
    await page.getByRole('button', { name: en.signIn.demoUsers.alice }).click();
    await waitUntilLive(page);
    await flip(switchOf(page, flag, false));
    await switchOf(page, flag, true).waitFor();
    await rowOf(page, flag).getByText(en.features.happened('alice', en.actions.updated)).waitFor();

    await page.getByRole('link', { name: flag.name, exact: true }).click();
    await page.getByRole('heading', { name: flag.name, level: 1 }).waitFor();
    expect(new URL(page.url()).pathname).toBe(basePath + pageOf(flag, 'dev'));
    await page.reload();
    await page.getByRole('heading', { name: flag.name, level: 1 }).waitFor();
    await waitUntilLive(page);

    await page.goto(`${basePath}/`);
    await page.getByRole('heading', { name: en.shell.features, level: 1 }).waitFor();
    expect(new URL(page.url()).pathname).toMatch(/^\/flagcast\/p\//);
    const icons = page.locator('img[src$="icon.svg"]');
    for (const source of await icons.evaluateAll((all) => all.map((each) => (each as HTMLImageElement).src)))
      expect(new URL(source).pathname).toBe(`${basePath}/icon.svg`);
    // The address follows what is typed into the search.
    await page.getByRole('searchbox', { name: en.features.search }).fill(flag.name);
    await page.waitForURL(/\/flagcast\/p\/.*q=/);
  });

  it('the console works over server-sent events', async () => {
    const { fixture } = context;
    const flag = await fixture.addFlag();
    const { page, ...window } = await fixture.open('alice', basePath + listOf(flag, 'dev'), {
      basePath,
      isOwn: true,
    });
    await window.context.addInitScript('delete globalThis.WebSocket');
    await page.reload();
    await waitUntilLive(page);
    await flip(switchOf(page, flag, false));
    await rowOf(page, flag).getByText(en.features.happened('alice', en.actions.updated)).waitFor();
  });
});
