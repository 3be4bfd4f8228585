/** An empty WebSocket ping of a server (RFC 6455, 5.5.2). */
export const pingFrame = Buffer.of(0x89, 0x00);

/** An empty WebSocket pong. An unsolicited one is not answered (RFC 6455, 5.5.3). */
export const pongFrame = Buffer.of(0x8a, 0x00);

/** One frame after another; a single one is not copied. */
export function joined(frames: readonly Buffer[]): Buffer {
  const [first] = frames;
  return first !== undefined && frames.length === 1 ? first : Buffer.concat(frames);
}

/**
 * A WebSocket text frame of a server: final, unmasked, uncompressed (RFC 6455, 5.2). Encoded here because the ws library
 * would frame a message again for each connection.
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
