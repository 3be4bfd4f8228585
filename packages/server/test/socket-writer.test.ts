import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { AddressInfo, Socket } from 'node:net';
import path from 'node:path';
import { readFileSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { CloseCode } from '@flagcast/protocol';
import koffi from 'koffi';
import { afterEach, describe, expect, it } from 'vitest';
import { WebSocket, WebSocketServer } from 'ws';
import { BatchedSocketWriter } from '../../io-uring/src/batched-socket-writer.js';
import { SubmissionQueue } from '../../io-uring/src/submission-queue.js';
import { plainSocketWriter, type SocketWriter } from '../src/transport/socket-writer.js';
import { hasIoUring } from './io-uring-here.js';
import { createPlainDialect } from '../src/connections/codecs/plain.js';
import type { Session } from '../src/connections/connection.js';
import { ConnectionRegistry } from '../src/connections/connection-registry.js';
import { ServerWebSocket, WebSocketConnection } from '../src/transport/web-socket-connection.js';
import { Lifecycle } from '../src/lifecycle.js';
import { textFrame } from '../src/connections/codecs/frame.js';
import { createTestFolder } from './database.js';
import { nextEvent } from './server.js';

const queue = hasIoUring ? new SubmissionQueue() : null;
const writerFor = (maxPlain?: number): SocketWriter =>
  queue === null ? plainSocketWriter : new BatchedSocketWriter(queue, () => expect.unreachable(), maxPlain);
/** Submits also the writes of few connections. */
const socketWriter = writerFor(0);
const cork = socketWriter.cork.bind(socketWriter);

interface Client {
  readonly socket: WebSocket;
  readonly texts: string[];
  /** Resolves when `count` texts have arrived. */
  readonly received: (count: number) => Promise<string[]>;
}

interface Connected {
  readonly client: Client;
  readonly connection: WebSocketConnection;
  /** The server's end of its line. */
  readonly line: Socket;
}

let http: Server;
const lines = new Set<Socket>();
const lifecycle = new Lifecycle();

afterEach(() => {
  for (const line of lines) line.destroy();
  lines.clear();
  http.close();
});

/** Listens, and connects `count` clients, one after another. */
async function connect(server: Server, count: number, writer = socketWriter): Promise<Connected[]> {
  http = server;
  const sockets = new WebSocketServer({ noServer: true, WebSocket: ServerWebSocket });
  const registry = new ConnectionRegistry(lifecycle);
  const joined: { connection: WebSocketConnection; line: Socket }[] = [];
  server.on('upgrade', (request, line: Socket, head) => {
    lines.add(line);
    sockets.handleUpgrade(request, line, head, (webSocket) => {
      const session: Session = {
        dialect: createPlainDialect('spec'),
        receive: () => undefined,
        channels: () => [],
        approvalsScope: null,
        revoke: () => false,
        rescope: () => undefined,
        channelsChanged: () => undefined,
        sendHeartbeat: () => undefined,
        sendFreshness: () => undefined,
        drained: () => undefined,
        close: () => undefined,
        end: () => undefined,
      };
      const connection = new WebSocketConnection({
        webSocket,
        socket: line,
        registry,
        principal: {
          user: { id: '1', username: 'root', active: true, superuser: true },
          expiresAtMs: Infinity,
        },
        socketWriter: writer,
        openSession: () => session,
      });
      joined.push({ connection, line });
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const scheme = 'setSecureContext' in server ? 'wss' : 'ws';
  const connected: Connected[] = [];
  for (let index = 0; index < count; index += 1) {
    const socket = new WebSocket(`${scheme}://127.0.0.1:${port}`, { rejectUnauthorized: false });
    const texts: string[] = [];
    socket.on('message', (data) => texts.push((data as Buffer).toString('utf8')));
    await once(socket, 'open');
    const received = async (expected: number): Promise<string[]> => {
      while (texts.length < expected) await once(socket, 'message');
      return texts;
    };
    const { connection, line } = joined[index] as (typeof joined)[number];
    connected.push({ client: { socket, texts, received }, connection, line });
  }
  return connected;
}

async function pair(server: Server): Promise<[Connected, Connected]> {
  return (await connect(server, 2)) as [Connected, Connected];
}

describe.runIf(hasIoUring)('a BatchedSocketWriter of WebSockets', () => {
  it('sends each connection its own frames in order, without the sockets', async () => {
    const all = await connect(createServer(), 300);
    const writtenBefore = all.map(({ line }) => line.bytesWritten);
    const news = textFrame('news for all');
    cork(() => {
      for (const { connection } of all) connection.send(news);
      for (const [index, { connection }] of all.entries()) connection.send(textFrame(`for number ${index}`));
    });
    for (const [index, { client, line }] of all.entries()) {
      expect(await client.received(2)).toStrictEqual(['news for all', `for number ${index}`]);
      expect(line.bytesWritten).toBe(writtenBefore[index]);
    }
  });

  it.each([
    [16, 'the sockets'],
    [17, 'io_uring'],
  ])('writes to %i connections by %s', async (count, way) => {
    const writer = writerFor();
    const all = await connect(createServer(), count, writer);
    const writtenBefore = all.map(({ line }) => line.bytesWritten);
    writer.cork(() => {
      for (const { connection } of all) connection.send(textFrame('news'));
    });
    for (const [index, { client, line }] of all.entries()) {
      expect(await client.received(1)).toStrictEqual(['news']);
      expect(line.bytesWritten > (writtenBefore[index] ?? 0)).toBe(way === 'the sockets');
    }
  });

  it('sends everything in order to a client that pauses reading, and does not delay others', async () => {
    const [slow, quick] = await pair(createServer());
    slow.client.socket.pause();
    const expected: string[] = [];
    const say = (): void => {
      const text = `${expected.length} ${'x'.repeat(30_000)}`;
      expected.push(text);
      const frame = textFrame(text);
      cork(() => {
        for (const { connection } of [slow, quick]) connection.send(frame);
      });
    };
    // More than any network buffers.
    while (slow.line.writableLength === 0 && expected.length < 1_000) {
      say();
      await quick.client.received(expected.length);
    }
    expect(slow.line.writableLength).toBeGreaterThan(0);
    // A part of the last frame may have been written; these frames wait for the rest.
    for (let more = 0; more < 3; more += 1) say();
    expect(await quick.client.received(expected.length)).toStrictEqual(expected);
    // After each read of the client the network has room again, before the socket is notified.
    const last = expected.length + 20;
    slow.client.socket.on('message', () => {
      if (expected.length < last) say();
    });
    slow.client.socket.resume();
    await slow.client.received(last);
    expect(await slow.client.received(expected.length)).toStrictEqual(expected);
  });

  it('sends the frames of a connection before its close frame', async () => {
    const [leaving] = await pair(createServer());
    const closed = once(leaving.client.socket, 'close');
    cork(() => {
      leaving.connection.send(textFrame('news'));
      leaving.connection.close(CloseCode.forbidden, 'forbidden');
    });
    expect((await closed)[0]).toBe(CloseCode.forbidden);
    expect(leaving.client.texts).toStrictEqual(['news']);
  });

  it('sends frames that are larger than its buffer', async () => {
    const [one, other] = await pair(createServer());
    const texts = ['small', 'x'.repeat(300_000), 'y'.repeat(200_000), 'z'.repeat(200_000), 'small again'];
    cork(() => {
      for (const text of texts) for (const { connection } of [one, other]) connection.send(textFrame(text));
    });
    for (const { client } of [one, other]) expect(await client.received(texts.length)).toStrictEqual(texts);
  });

  it('terminates a connection whose client has disconnected, and sends to the others', async () => {
    const [gone, other] = await pair(createServer());
    const closed = nextEvent(lifecycle, 'connection:closed');
    cork(() => {
      for (const { connection } of [gone, other]) connection.send(textFrame('news'));
      // The reset has arrived, but the socket reports its end in the next turn of the event loop.
      (gone.client.socket as unknown as { _socket: Socket })._socket.resetAndDestroy();
    });
    expect((await closed).connectionId).toBe(gone.connection.connectionId);
    expect(await other.client.received(1)).toStrictEqual(['news']);
  });

  it('never writes to a connection that reuses the descriptor of a closed one', async () => {
    const [closing, other] = await pair(createServer());
    const descriptor = (closing.line as unknown as { _handle: { fd: number } })._handle.fd;
    const otherDescriptor = (other.line as unknown as { _handle: { fd: number } })._handle.fd;
    const library = koffi.load(null);
    const duplicate = library.func('int dup2(int from, int to)') as (from: number, to: number) => number;
    const close = library.func('int close(int descriptor)') as (descriptor: number) => number;
    cork(() => {
      closing.connection.send(textFrame('not for others'));
      closing.line.destroy();
      expect(duplicate(otherDescriptor, descriptor)).toBe(descriptor);
    });
    close(descriptor);
    other.connection.send(textFrame('mine'));
    expect(await other.client.received(1)).toStrictEqual(['mine']);
  });

  it('calls the write function with which a host replaced that of a socket', async () => {
    const server = createServer();
    const seen: unknown[] = [];
    server.on('connection', (line) => {
      const write = line.write.bind(line) as (bytes: unknown) => boolean;
      line.write = (bytes: unknown) => {
        seen.push(bytes);
        return write(bytes);
      };
    });
    const [{ connection, client }] = await pair(server);
    const frame = textFrame('news');
    cork(() => connection.send(frame));
    expect(await client.received(1)).toStrictEqual(['news']);
    expect(seen).toContain(frame);
  });
});

const hasOpenssl = spawnSync('openssl', ['version']).status === 0;
if (!hasOpenssl) process.stdout.write('socket-writer: no openssl here, so TLS is not tested\n');

describe.runIf(hasIoUring && hasOpenssl)('a BatchedSocketWriter with TLS', () => {
  it('writes through the sockets', async () => {
    const folder = await createTestFolder();
    const [key, cert] = ['key.pem', 'cert.pem'].map((name) => path.join(folder, name)) as [string, string];
    const made = spawnSync('openssl', [
      ...[
        'req',
        '-x509',
        '-newkey',
        'ec',
        '-pkeyopt',
        'ec_paramgen_curve:prime256v1',
        '-nodes',
        '-days',
        '2',
      ],
      ...['-subj', '/CN=localhost', '-keyout', key, '-out', cert],
    ]);
    expect(made.status).toBe(0);
    const both = await pair(createTlsServer({ key: readFileSync(key), cert: readFileSync(cert) }));
    cork(() => {
      for (const { connection } of both) connection.send(textFrame('news'));
    });
    for (const { client } of both) expect(await client.received(1)).toStrictEqual(['news']);
    await rm(folder, { recursive: true });
  });
});
