import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { type IncomingHttpHeaders, type IncomingMessage, request } from 'node:http';
import type { Socket } from 'node:net';

export { PlainClient } from '../../../testing/testkit/clients/plain-client.ts';
export { Refused } from '../../../testing/testkit/clients/refused.ts';

/** The response to an upgrade request that was written by hand. */
export interface Handshake {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  /** Of a refusal; empty after 101. */
  readonly body: string;
  /** Paused, with whatever followed the head unread in it; null unless the status is 101. */
  readonly socket: Socket | null;
}

/**
 * Sends an upgrade request with exactly this query string and these headers, over those of a good
 * handshake (null leaves one out). Nothing is read from or written to the socket afterwards.
 */
export async function handshake(
  wsUrl: string,
  query: string,
  headers: Record<string, string | null> = {},
): Promise<Handshake> {
  const all: Record<string, string | null> = {
    Connection: 'Upgrade',
    Upgrade: 'websocket',
    'Sec-WebSocket-Version': '13',
    'Sec-WebSocket-Key': randomBytes(16).toString('base64'),
    ...headers,
  };
  const { hostname, port, pathname } = new URL(wsUrl);
  const sent = request({
    hostname,
    port,
    path: query === '' ? pathname : `${pathname}?${query}`,
    headers: Object.fromEntries(
      Object.entries(all).flatMap(([name, value]) => (value === null ? [] : [[name, value]])),
    ),
    agent: false,
    setHost: all['Host'] !== null,
  });
  const answered = new Promise<[IncomingMessage, Socket | null]>((resolve, reject) => {
    sent.once('upgrade', (response, socket, head) => {
      socket.pause();
      socket.unshift(head);
      resolve([response, socket]);
    });
    sent.once('response', (response) => resolve([response, null]));
    sent.once('error', reject);
  });
  sent.end();
  const [response, socket] = await answered;
  const chunks: Buffer[] = [];
  if (socket === null) {
    response.on('data', (chunk: Buffer) => chunks.push(chunk));
    await once(response, 'end');
  }
  return {
    status: response.statusCode ?? 0,
    headers: response.headers,
    body: Buffer.concat(chunks).toString('utf8'),
    socket,
  };
}
