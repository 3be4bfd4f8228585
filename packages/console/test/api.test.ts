import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { expect, it, onTestFinished } from 'vitest';
import { createApi } from '../src/api/api.js';

it('a response that was cut off fails as unreachable or unconfirmed, not as an empty response', async () => {
  const server = createServer((_, response) => {
    response.writeHead(200, { 'Content-Type': 'application/json', 'Content-Length': '100' });
    response.write('{"features":[', () => response.destroy());
  }).listen(0, '127.0.0.1');
  onTestFinished(() => void server.close());
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const api = createApi({
    basePath: `http://127.0.0.1:${port}`,
    token: () => null,
    onTokenRefused: () => undefined,
  });
  await expect(api.get('/api/features')).rejects.toMatchObject({ status: 0, code: 'unreachable' });
  // The change may have succeeded: "try again" could make it twice.
  const change = api.send('PATCH', '/api/features/f1', { enabled: true });
  await expect(change).rejects.toMatchObject({ status: 0, code: 'outcome_unknown' });
});
