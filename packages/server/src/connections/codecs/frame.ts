/** An empty WebSocket ping as a server sends it (RFC 6455, 5.5.2); the same for all peers. */
export const pingFrame = Buffer.of(0x89, 0x00);

/** An empty WebSocket pong. One that nobody asked for is not answered (RFC 6455, 5.5.3); the same for all peers. */
export const pongFrame = Buffer.of(0x8a, 0x00);

/**
 * A WebSocket text frame as a server sends it: final, unmasked, uncompressed (RFC 6455, 5.2).
 *
 * Written by hand so that a message becomes bytes once, however many peers get it; a library
 * frames it anew for each.
 */
export function textFrame(text: string): Buffer {
  const length = Buffer.byteLength(text);
  const headerLength = length < 126 ? 2 : length < 65_536 ? 4 : 10;
  const frame = Buffer.allocUnsafe(headerLength + length);
  frame[0] = 0x81;
  if (headerLength === 2) {
    frame[1] = length;
  } else if (headerLength === 4) {
    frame[1] = 126;
    frame.writeUInt16BE(length, 2);
  } else {
    frame[1] = 127;
    frame.writeBigUInt64BE(BigInt(length), 2);
  }
  frame.write(text, headerLength);
  return frame;
}
