/** Opcodes of WebSocket frames (RFC 6455, 5.2). */
export const opcodes = /** @type {const} */ ({ text: 1, binary: 2, close: 8, ping: 9, pong: 10 });

/**
 * Called with each complete frame, whose payload is `bytes` from `start` to `end`.
 *
 * @typedef {(opcode: number, bytes: Buffer, start: number, end: number) => void} OnFrame
 */

/**
 * Parses the unmasked frames of a server. It copies only the start of an incomplete frame.
 */
export class FrameReader {
  /** @param {OnFrame} onFrame */
  constructor(onFrame) {
    this.onFrame = onFrame;
    /** @type {Buffer | null} */
    this.rest = null;
  }

  /** @param {Buffer} chunk may be overwritten after the call */
  read(chunk) {
    const bytes = this.rest === null ? chunk : Buffer.concat([this.rest, chunk]);
    const { length } = bytes;
    let at = 0;
    while (at + 2 <= length) {
      const short = (bytes[at + 1] ?? 0) & 0x7f;
      const headerEnd = at + (short < 126 ? 2 : short === 126 ? 4 : 10);
      if (headerEnd > length) break;
      const size =
        short < 126
          ? short
          : short === 126
            ? bytes.readUInt16BE(at + 2)
            : Number(bytes.readBigUInt64BE(at + 2));
      if (headerEnd + size > length) break;
      this.onFrame((bytes[at] ?? 0) & 0x0f, bytes, headerEnd, headerEnd + size);
      at = headerEnd + size;
    }
    this.rest = at === length ? null : Buffer.from(bytes.subarray(at));
  }
}

/**
 * Builds a client's frame. The mask is zero, which is valid and leaves the payload unchanged.
 *
 * @param {number} opcode
 * @param {Buffer} payload at most 65,535 bytes
 * @returns {Buffer}
 */
export function clientFrame(opcode, payload) {
  const { length } = payload;
  const header = Buffer.alloc(length < 126 ? 6 : 8);
  header[0] = 0x80 | opcode;
  if (length < 126) {
    header[1] = 0x80 | length;
  } else {
    header[1] = 0x80 | 126;
    header.writeUInt16BE(length, 2);
  }
  return Buffer.concat([header, payload]);
}
