import { clientFrame, opcodes } from './frames.js';
import { connectPacket, packetTypes, subscribePacket } from './mqtt.js';

/**
 * What a frame means to a receiver: an event, that from now on it gets all events, nothing; or it is
 * to be answered with these bytes.
 *
 * @typedef {'event' | 'ready' | 'nothing' | Buffer} Meaning
 */

/**
 * How a receiver speaks. `opening`: what it says first; null: it is ready once it is connected.
 *
 * @typedef {{
 *   readonly subprotocols: string | null,
 *   readonly opening: Buffer | null,
 *   readonly meaningOf: (opcode: number, bytes: Buffer, start: number) => Meaning,
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
  /** Each text frame is an event: our plain dialect, a loop over ws, nchan. */
  text: () => ({
    subprotocols: null,
    opening: null,
    meaningOf: (opcode) => (opcode === opcodes.text ? 'event' : 'nothing'),
  }),

  /** An event begins with `{"source"`; `{"type":"caught_up"` tells that the channel is live. */
  'flagcast.v1': () => ({
    subprotocols: 'flagcast.v1',
    // The channel is named in the address: there is nothing to say.
    opening: Buffer.alloc(0),
    meaningOf: (opcode, bytes, start) => {
      if (opcode !== opcodes.text) return 'nothing';
      if (bytes[start + 2] === letters.s) return 'event';
      return bytes[start + 9] === letters.c && bytes[start + 10] === letters.a ? 'ready' : 'nothing';
    },
  }),

  /** Engine.IO 4: `0` opens, `2` asks, `3` answers, `4` is a packet of Socket.IO: `40` connects, `42` is an event. */
  'socket.io': () => {
    const connect = text('40');
    const pong = text('3');
    return {
      subprotocols: null,
      opening: Buffer.alloc(0),
      meaningOf: (opcode, bytes, start) => {
        if (opcode !== opcodes.text) return 'nothing';
        const first = bytes[start];
        if (first === digits.zero) return connect;
        if (first === digits.two) return pong;
        if (first !== digits.four) return 'nothing';
        return bytes[start + 1] === digits.two
          ? 'event'
          : bytes[start + 1] === digits.zero
            ? 'ready'
            : 'nothing';
      },
    };
  },

  /** MQTT over WebSocket; a packet is a frame. */
  mqtt: (topic) => {
    const subscribe = binary(subscribePacket(topic));
    return {
      subprotocols: 'mqtt',
      opening: binary(connectPacket),
      meaningOf: (opcode, bytes, start) => {
        if (opcode !== opcodes.binary) return 'nothing';
        switch ((bytes[start] ?? 0) >> 4) {
          case packetTypes.publish:
            return 'event';
          case packetTypes.connack:
            return subscribe;
          case packetTypes.suback:
            return 'ready';
          default:
            return 'nothing';
        }
      },
    };
  },
};
