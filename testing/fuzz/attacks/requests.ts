import type { SeededRandom } from '../../testkit/random.ts';

/** The server under attack, valid tokens, and existing objects. */
export interface Target {
  readonly port: number;
  readonly tokens: readonly string[];
  readonly projectId: string;
  /** The key of an environment. */
  readonly env: string;
  readonly featureId: string;
}

/** The text of a request. `headers`: lines, with `authorization` for a valid token. */
export function requestText(method: string, path: string, headers: readonly string[], body = ''): string {
  return `${method} ${path} HTTP/1.1\r\n${headers.map((line) => `${line}\r\n`).join('')}\r\n${body}`;
}

export function authorization(random: SeededRandom, { tokens }: Target): string {
  return `Authorization: Bearer ${random.pick(tokens)}`;
}

export interface Handshake {
  readonly method?: string;
  /** Default: the path of an existing channel. */
  readonly path?: string;
  /** Headers that replace others of the same name; null removes one. */
  readonly headers?: Readonly<Record<string, string | null>>;
}

/** The text of a WebSocket handshake with a valid token. */
export function handshakeText(random: SeededRandom, target: Target, handshake: Handshake = {}): string {
  const { method = 'GET', path = `/api/ws?${channelQuery(target)}` } = handshake;
  const headers: Record<string, string | null> = {
    ...{ Host: '127.0.0.1', Connection: 'Upgrade', Upgrade: 'websocket', 'Sec-WebSocket-Version': '13' },
    'Sec-WebSocket-Key': random.bytes(16).toString('base64'),
    Authorization: `Bearer ${random.pick(target.tokens)}`,
    ...handshake.headers,
  };
  const kept = Object.entries(headers).filter(([, value]) => value !== null);
  return requestText(
    method,
    path,
    kept.map((pair) => pair.join(': ')),
  );
}

/** The parameters of an existing channel. */
export function channelQuery({ projectId, env }: Target): string {
  return `project_id=${projectId}&env=${env}`;
}
