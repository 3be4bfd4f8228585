import { describe, expect, it } from 'vitest';
import { WebSocket } from 'ws';
import type { WebSocketClass, WebSocketLike } from '../../src/index.js';
import { channelArguments, stageArguments, startFixture, until, untilStatus } from './client-fixture.js';

describe('a WebSocket', () => {
  it('gets no message while the server is closing it', async () => {
    const { server, connect } = await startFixture();
    const sockets: WebSocket[] = [];
    const states: number[] = [];
    class RecordingSocket extends WebSocket {
      constructor(url: string, protocols: string[]) {
        super(url, protocols);
        sockets.push(this);
      }
      override send(text: string): void {
        states.push(this.readyState);
        super.send(text);
      }
    }
    const client = connect({ WebSocket: RecordingSocket });
    const prod = client.channel(channelArguments);
    const connection = await server.connections.next();
    await connection.accept('c1');
    await untilStatus(prod, 'live');
    // The server never confirms.
    connection.socket.pause();
    sockets[0]?.close();
    const stage = client.channel(stageArguments);
    await until(stage, ({ environment }) => environment === 'stage');
    prod.close();
    connection.socket.terminate();
    const next = await server.connections.next();
    next.hello();
    expect(await next.received.next()).toMatchObject({ type: 'subscribe', env_id: '8' });
    expect(new Set(states)).toEqual(new Set([WebSocket.OPEN]));
  });

  it(
    'that ends with `error` and without `close`, as under a Content-Security-Policy, is lost',
    { timeout: 15_000 },
    async () => {
      const { server, connect } = await startFixture();
      const Forbidden = function (this: WebSocketLike) {
        setImmediate(() => this.onerror?.({} as never));
        Object.assign(this, { readyState: 3, send: () => undefined, close: () => undefined });
      } as unknown as WebSocketClass;
      connect({ WebSocket: Forbidden }).channel(channelArguments);
      expect((await server.streams.next()).request.url).toContain('/api/events');
    },
  );
});
