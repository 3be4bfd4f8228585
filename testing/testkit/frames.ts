/** Opcodes of WebSocket frames (RFC 6455, 5.2). */
export const opcodes = { continuation: 0, text: 1, binary: 2, close: 8, ping: 9, pong: 10 } as const;

/** Called with each complete frame, whose payload is `bytes` from `start` to `end`. */
export type OnFrame = (opcode: number, bytes: Buffer, start: number, end: number) => void;

/** Parses the unmasked frames of a server. It copies only the start of an incomplete frame. */
export class FrameReader {
  readonly #onFrame: OnFrame;
  #rest: Buffer | null = null;

  constructor(onFrame: OnFrame) {
    this.#onFrame = onFrame;
  }

  /** The start of an incomplete frame. */
  get rest(): Buffer | null {
    return this.#rest;
  }

  /** `chunk` may be overwritten after the call. */
  read(chunk: Buffer): void {
    const bytes = this.#rest === null ? chunk : Buffer.concat([this.#rest, chunk]);
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
      this.#onFrame((bytes[at] ?? 0) & 0x0f, bytes, headerEnd, headerEnd + size);
      at = headerEnd + size;
    }
    this.#rest = at === length ? null : Buffer.from(bytes.subarray(at));
  }
}

export interface FrameChanges {
  readonly final?: boolean;
  /** The three reserved bits, 0 to 7. */
  readonly reserved?: number;
  readonly masked?: boolean;
  /** The length in the header. Default: that of the payload. */
  readonly length?: bigint;
}

/**
 * Builds a frame of a client; with changes an invalid one. The mask is zero, which is valid and leaves the payload
 * unchanged.
 */
export function clientFrame(
  opcode: number,
  payload: Buffer | string = '',
  changes: FrameChanges = {},
): Buffer {
  const bytes = Buffer.from(payload);
  const { final = true, reserved = 0, masked = true, length = BigInt(bytes.length) } = changes;
  const header = Buffer.alloc(length < 126n ? 2 : length < 65_536n ? 4 : 10);
  header[0] = (final ? 0x80 : 0) | (reserved << 4) | opcode;
  header[1] = (masked ? 0x80 : 0) | (header.length === 2 ? Number(length) : header.length === 4 ? 126 : 127);
  if (header.length === 4) header.writeUInt16BE(Number(length), 2);
  if (header.length === 10) header.writeBigUInt64BE(length, 2);
  return Buffer.concat([header, Buffer.alloc(masked ? 4 : 0), bytes]);
}
