import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { text } from 'node:stream/consumers';
import { describe, expect, it, vi } from 'vitest';
import { BurstThrottle } from '../src/postgres/query-batcher.js';
import { HandshakeQueue } from '../src/transport/handshake-queue.js';
import { createTestDatabase } from './database.js';
import { startTestServer } from './server.js';

/** Keeps the event loop, as work does. */
function work(durationMs: number): void {
  const endMs = performance.now() + durationMs;
  while (performance.now() < endMs);
}

describe('many handshakes at the same time', () => {
  it('are done in order, with other work in between', async () => {
    const queue = new HandshakeQueue({ timeoutMs: 60_000 });
    const entered: number[] = [];
    let servedInBetween = 0;
    await new Promise<void>((resolve) => {
      const serve = (): void => {
        if (entered.length === 20) {
          resolve();
          return;
        }
        servedInBetween += 1;
        setImmediate(serve);
      };
      for (let count = 0; count < 20; count += 1) {
        queue.add(
          () => {
            entered.push(count);
            work(5);
          },
          () => expect.unreachable('it was not too late'),
        );
      }
      expect(entered.length).toBeLessThan(20);
      serve();
    });
    expect(entered).toStrictEqual(Array.from({ length: 20 }, (_, index) => index));
    // 100 ms of work in stretches of 10 ms.
    expect(servedInBetween).toBeGreaterThanOrEqual(5);
  });

  it('are answered with 503 and Retry-After if they would wait too long', async () => {
    const database = await createTestDatabase({ schema: 'tables' });
    const server = await startTestServer(database.url, { timeouts: { handshakeTimeoutMs: 25 } });
    try {
      // Each refusal takes 15 ms of the event loop here, so that the next handshakes wait.
      server.flagcast.lifecycle.on('connection:refused', () => work(15));
      const { host, pathname } = new URL(server.wsUrl);
      const sockets: Socket[] = [];
      while (sockets.length < 10) {
        const accepted = once(server.http, 'connection');
        sockets.push(connect(Number(host.split(':')[1]), '127.0.0.1'));
        await accepted;
      }
      const answers = sockets.map(async (socket) => await text(socket));
      for (const socket of sockets) {
        socket.write(
          `GET ${pathname} HTTP/1.1\r\nHost: ${host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n` +
            'Origin: https://elsewhere.example\r\n\r\n',
        );
      }
      const heads = (await Promise.all(answers)).map((answer) => answer.split('\r\n'));
      expect(heads[0]?.[0]).toBe('HTTP/1.1 403 Forbidden');
      const late = heads.at(-1) ?? [];
      expect(late[0]).toBe('HTTP/1.1 503 Service Unavailable');
      expect(late).toContain('Retry-After: 5');
      expect(JSON.parse(late.at(-1) ?? '')).toStrictEqual({
        code: 'busy',
        message: 'Too many clients connect at the same time: try again shortly',
      });
    } finally {
      await server.close();
      await database.drop();
    }
  });
});

describe('a BurstThrottle', () => {
  it('lets a single request pass immediately, and combines a burst within about a second', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'setImmediate', 'performance'] });
    try {
      const pace = new BurstThrottle();
      let gone = 0;
      const come = (): void => void pace.turn().then(() => (gone += 1));
      const groups: number[] = [];
      for (let timeMs = 0; timeMs < 5_000; timeMs += 1) {
        come();
        await vi.advanceTimersByTimeAsync(1);
        if (gone > groups.reduce((sum, size) => sum + size, 0)) {
          groups.push(gone - groups.reduce((sum, size) => sum + size, 0));
        }
      }
      // 1,000 a second, for 5 s.
      expect(groups[0]).toBe(1);
      expect(groups.length).toBeLessThanOrEqual(10);
      expect(Math.max(...groups)).toBeLessThanOrEqual(1_001);
      // The batch closes when no more requests arrive.
      await vi.advanceTimersByTimeAsync(300);
      expect(gone).toBe(5_000);
      // A minute later, a single request passes immediately again.
      await vi.advanceTimersByTimeAsync(60_000);
      come();
      await Promise.resolve();
      await Promise.resolve();
      expect(gone).toBe(5_001);
    } finally {
      vi.useRealTimers();
    }
  });
});
