import { clientFrame, opcodes } from '../../testkit/frames.ts';

/**
 * How a receiver treats a frame: it is an event, the receiver is live from now on (ready), the frame is ignored, or the
 * receiver must answer with these bytes.
 */
type FrameKind = 'event' | 'ready' | 'ignored' | Buffer;

/** The protocol of a receiver. */
interface Dialect {
  readonly subprotocol?: string;
  /** Whether a receiver is live as soon as it is connected. */
  readonly isReadyAtOnce?: boolean;
  /** The kind of a text frame, whose payload begins at `start`. */
  readonly kindOf: (bytes: Buffer, start: number) => FrameKind;
}

export type DialectName = 'text' | 'flagcast.v1' | 'socket.io';

const code = (character: string) => character.charCodeAt(0);
const codes = { s: code('s'), c: code('c'), a: code('a'), zero: code('0'), two: code('2'), four: code('4') };
const socketIoConnect = clientFrame(opcodes.text, Buffer.from('40'));
const socketIoPong = clientFrame(opcodes.text, Buffer.from('3'));

export const dialects: Readonly<Record<DialectName, Dialect>> = {
  /** Each text frame is an event: Flagcast's plain dialect, a loop over ws, nchan. */
  text: { isReadyAtOnce: true, kindOf: () => 'event' },

  /** An event begins with `{"source"`; `{"type":"caught_up"` means that the channel, which the query string names, is live. */
  'flagcast.v1': {
    subprotocol: 'flagcast.v1',
    kindOf: (bytes, start) => {
      if (bytes[start + 2] === codes.s) return 'event';
      return bytes[start + 9] === codes.c && bytes[start + 10] === codes.a ? 'ready' : 'ignored';
    },
  },

  /** Engine.IO 4: `0` opens, `2` is a ping, `3` a pong, `4` is a packet of Socket.IO: `40` connects, `42` is an event. */
  'socket.io': {
    kindOf: (bytes, start) => {
      const [first, second] = [bytes[start], bytes[start + 1]];
      if (first === codes.zero) return socketIoConnect;
      if (first === codes.two) return socketIoPong;
      if (first !== codes.four) return 'ignored';
      return second === codes.two ? 'event' : second === codes.zero ? 'ready' : 'ignored';
    },
  },
};
