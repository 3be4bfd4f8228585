import { clientFrame, opcodes } from '../../testkit/frames.ts';
import { connectPacket, packetTypes, subscribePacket } from './mqtt.js';

/**
 * How a receiver treats a frame: it is an event, the receiver is subscribed from now on (ready), the frame is ignored, or the
 * receiver must answer with these bytes.
 *
 * @typedef {'event' | 'ready' | 'ignored' | Buffer} FrameKind
 */

/**
 * The protocol of a receiver. `opening`: its first frames; null: it is ready as soon as it is connected.
 *
 * @typedef {{
 *   readonly subprotocols: string | null,
 *   readonly opening: Buffer | null,
 *   readonly kindOf: (opcode: number, bytes: Buffer, start: number) => FrameKind,
 * }} Dialect
 */

/** @typedef {'text' | 'flagcast.v1' | 'socket.io' | 'mqtt'} DialectName */

/** @param {string} character */
const code = (character) => character.charCodeAt(0);
const letters = { s: code('s'), c: code('c'), a: code('a') };
const digits = { zero: code('0'), two: code('2'), four: code('4') };

/** @param {string} message */
const text = (message) => clientFrame(opcodes.text, Buffer.from(message));
/** @param {Buffer} packet */
const binary = (packet) => clientFrame(opcodes.binary, packet);

/** @type {Readonly<Record<DialectName, (topic: string) => Dialect>>} */
export const dialects = {
  /** Each text frame is an event: Flagcast's plain dialect, a loop over ws, nchan. */
  text: () => ({
    subprotocols: null,
    opening: null,
    kindOf: (opcode) => (opcode === opcodes.text ? 'event' : 'ignored'),
  }),

  /** An event begins with `{"source"`; `{"type":"caught_up"` means that the channel is live. */
  'flagcast.v1': () => ({
    subprotocols: 'flagcast.v1',
    // The query string names the channel: no subscribe message is needed.
    opening: Buffer.alloc(0),
    kindOf: (opcode, bytes, start) => {
      if (opcode !== opcodes.text) return 'ignored';
      if (bytes[start + 2] === letters.s) return 'event';
      return bytes[start + 9] === letters.c && bytes[start + 10] === letters.a ? 'ready' : 'ignored';
    },
  }),

  /** Engine.IO 4: `0` opens, `2` is a ping, `3` a pong, `4` is a packet of Socket.IO: `40` connects, `42` is an event. */
  'socket.io': () => {
    const connect = text('40');
    const pong = text('3');
    return {
      subprotocols: null,
      opening: Buffer.alloc(0),
      kindOf: (opcode, bytes, start) => {
        if (opcode !== opcodes.text) return 'ignored';
        const first = bytes[start];
        if (first === digits.zero) return connect;
        if (first === digits.two) return pong;
        if (first !== digits.four) return 'ignored';
        return bytes[start + 1] === digits.two
          ? 'event'
          : bytes[start + 1] === digits.zero
            ? 'ready'
            : 'ignored';
      },
    };
  },

  /** MQTT over WebSocket; a packet is a frame. */
  mqtt: (topic) => {
    const subscribe = binary(subscribePacket(topic));
    return {
      subprotocols: 'mqtt',
      opening: binary(connectPacket),
      kindOf: (opcode, bytes, start) => {
        if (opcode !== opcodes.binary) return 'ignored';
        switch ((bytes[start] ?? 0) >> 4) {
          case packetTypes.publish:
            return 'event';
          case packetTypes.connack:
            return subscribe;
          case packetTypes.suback:
            return 'ready';
          default:
            return 'ignored';
        }
      },
    };
  },
};
