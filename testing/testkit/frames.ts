import type { Writable } from 'node:stream';
import * as ws from 'ws';

interface FrameHandlers {
  readonly onText: (text: string) => unknown;
  readonly onClose?: (code: number) => unknown;
  readonly onPong?: () => unknown;
}

// The library exports its parser, but its types do not list it.
const { Receiver } = ws as unknown as { readonly Receiver: new () => Writable };

/** Parses the frames of a server, which are written to it. After an invalid frame it parses no more. */
export function frameReader({ onText, onClose, onPong }: FrameHandlers): Writable {
  const receiver = new Receiver();
  receiver.on('message', (data: Buffer, isBinary: boolean) => {
    if (!isBinary) onText(data.toString('utf8'));
  });
  if (onClose !== undefined) receiver.on('conclude', onClose);
  if (onPong !== undefined) receiver.on('pong', onPong);
  return receiver.on('error', () => undefined);
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
