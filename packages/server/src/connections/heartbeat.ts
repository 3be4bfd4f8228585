import type { HeartbeatMessage } from '@flagcast/protocol';
import { cursorOf, type Position } from '../events/position.js';
import type { SessionWire } from './session.js';

/** One beat for all connections: its bytes are made once for each kind of wire. */
export class Heartbeat {
  readonly position: Position;
  readonly #message: HeartbeatMessage;
  readonly #encodings = new Map<SessionWire, Buffer>();

  /** `asOf`: everything that was committed before this time has been read. */
  constructor(position: Position, asOf: string | null) {
    this.position = position;
    const timestamp = new Date().toISOString();
    this.#message = { type: 'heartbeat', cursor: cursorOf(position), timestamp, as_of: asOf };
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
