/** @import { SeededRandom } from '../../testkit/random.ts' */

/**
 * The server under attack, valid tokens, and existing objects.
 *
 * @typedef {{
 *   readonly port: number,
 *   readonly tokens: readonly string[],
 *   readonly projectId: string,
 *   readonly environmentKey: string,
 *   readonly featureId: string,
 * }} Target
 */

/**
 * Returns the text of a request.
 *
 * @param {string} method
 * @param {string} path
 * @param {readonly (readonly [name: string, value: string])[]} headers
 * @param {string} [body]
 */
export function requestText(method, path, headers, body = '') {
  const lines = headers.map(([name, value]) => `${name}: ${value}\r\n`);
  return `${method} ${path} HTTP/1.1\r\n${lines.join('')}\r\n${body}`;
}

/**
 * Returns the headers of a valid handshake with changes; null removes a header.
 *
 * @param {SeededRandom} random
 * @param {Readonly<Record<string, string | null>>} [changes]
 * @returns {[name: string, value: string][]}
 */
export function handshakeHeaders(random, changes = {}) {
  /** @type {Record<string, string | null>} */
  const all = {
    Host: '127.0.0.1',
    Connection: 'Upgrade',
    Upgrade: 'websocket',
    'Sec-WebSocket-Version': '13',
    'Sec-WebSocket-Key': random.bytes(16).toString('base64'),
    ...changes,
  };
  return Object.entries(all).flatMap(([name, value]) => (value === null ? [] : [[name, value]]));
}

/**
 * Returns the path of an existing channel.
 *
 * @param {Target} target
 */
export function channelPath({ projectId, environmentKey }) {
  return `/api/ws?project_id=${projectId}&env=${environmentKey}`;
}

/**
 * @param {SeededRandom} random
 * @param {Target} target
 */
export function bearer(random, { tokens }) {
  return `Bearer ${random.pick(tokens)}`;
}

/**
 * Builds a valid or invalid client frame.
 *
 * @param {{
 *   opcode?: number, payload?: Buffer, final?: boolean, reserved?: number, masked?: boolean, length?: bigint,
 * }} frame `reserved`: the three reserved bits, 0 to 7. `length`: the length in the header, which may differ from the payload's
 */
export function clientFrame({
  opcode = 1,
  payload = Buffer.of(),
  final = true,
  reserved = 0,
  masked = true,
  length = BigInt(payload.length),
}) {
  const first = (final ? 0x80 : 0) | (reserved << 4) | opcode;
  const maskBit = masked ? 0x80 : 0;
  let header;
  if (length < 126n) header = Buffer.from([first, maskBit | Number(length)]);
  else if (length < 65_536n) {
    header = Buffer.from([first, maskBit | 126, 0, 0]);
    header.writeUInt16BE(Number(length), 2);
  } else {
    header = Buffer.alloc(10);
    header[0] = first;
    header[1] = maskBit | 127;
    header.writeBigUInt64BE(length, 2);
  }
  if (!masked) return Buffer.concat([header, payload]);
  const mask = Buffer.from([0x37, 0xfa, 0x21, 0x3d]);
  const maskedPayload = Buffer.from(payload);
  for (let at = 0; at < maskedPayload.length; at += 1)
    maskedPayload[at] = (maskedPayload[at] ?? 0) ^ (mask[at % 4] ?? 0);
  return Buffer.concat([header, mask, maskedPayload]);
}

/** @param {string} text */
export function textFrame(text) {
  return clientFrame({ payload: Buffer.from(text) });
}
