import type { HeartbeatMessage } from '@flagcast/protocol';
import { cursorOf, type Position } from '../events/position.js';
import type { SessionWire } from './session.js';

/** One beat for all connections: its bytes are made once for each kind of wire. */
export class Heartbeat {
  readonly position: Position;
  readonly #message: HeartbeatMessage;
  readonly #encodings = new Map<SessionWire, Buffer>();

  constructor(position: Position) {
    this.position = position;
    this.#message = { type: 'heartbeat', cursor: cursorOf(position), timestamp: new Date().toISOString() };
  }

  encoded(wire: SessionWire): Buffer {
    let bytes = this.#encodings.get(wire);
    if (bytes === undefined) {
      bytes = wire.control(this.#message);
      this.#encodings.set(wire, bytes);
    }
    return bytes;
  }
}
