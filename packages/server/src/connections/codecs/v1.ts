import type { ControlMessage, EventMessage, HeartbeatMessage } from '@flagcast/protocol';
import type { Dialect, EventGroup } from '../../events/dialect.js';
import type { FlagEvent } from '../../events/event.js';
import { cursorOf, type Position } from '../../events/position.js';
import { textFrame } from './frame.js';
import { toPlainMessage } from './plain.js';

/** How flagcast.v1 is sent: as WebSocket frames or as server-sent events. */
export interface V1Wire {
  readonly dialect: Dialect;
  control(message: ControlMessage): Buffer;
}

/** A heartbeat of many connections, encoded once for each wire. */
export class Heartbeat {
  readonly position: Position;
  readonly #message: HeartbeatMessage;
  readonly #encodings = new Map<V1Wire, Buffer>();

  /** `asOf`: everything that was committed before this time has been read. */
  constructor(position: Position, asOf: string | null) {
    this.position = position;
    const timestamp = new Date().toISOString();
    this.#message = { type: 'heartbeat', cursor: cursorOf(position), timestamp, as_of: asOf };
  }

  encoded(wire: V1Wire): Buffer {
    let bytes = this.#encodings.get(wire);
    if (bytes === undefined) {
      bytes = wire.control(this.#message);
      this.#encodings.set(wire, bytes);
    }
    return bytes;
  }
}

/** The plain message with the keys that flagcast.v1 adds, as JSON. The feature's state is JSON of the database, sent unchanged. */
function eventJson(event: FlagEvent, seenAt: string, cursor: string | null): string {
  const message: EventMessage = {
    ...toPlainMessage(event),
    id: event.id,
    environment_id: event.environmentId,
    row_id: event.rowId,
    feature_id: event.featureId,
    pending_change_id: event.pendingChangeId,
    actor: event.actor,
    committed_at: event.committedAt,
    seen_at: seenAt,
    ...(event.featureUnreadable ? { feature_unreadable: true as const } : {}),
    ...(cursor === null ? {} : { cursor }),
  };
  const json = JSON.stringify(message);
  if (event.featureJson === undefined) return json;
  return `${json.slice(0, -1)},"feature":${event.featureJson ?? 'null'}}`;
}

/** On a WebSocket each message is a text frame; the last event of a batch has the cursor. */
export const v1Wire: V1Wire = {
  dialect: {
    name: 'flagcast.v1',
    encode: (batch) => Buffer.concat(messagesOf(batch).map(({ json }) => textFrame(json))),
  },
  control: (message) => textFrame(JSON.stringify(message)),
};

/** The same messages as server-sent events. The cursor of a message is its id, too. */
export const sseWire: V1Wire = {
  dialect: {
    name: 'sse',
    encode: (batch) => Buffer.from(messagesOf(batch).map(sseText).join('')),
  },
  control: (message) => {
    const cursor = 'cursor' in message ? message.cursor : null;
    return Buffer.from(sseText({ json: JSON.stringify(message), cursor }));
  },
};

interface MessageText {
  readonly json: string;
  readonly cursor: string | null;
}

function messagesOf({ events, seenAtMs, cursor }: EventGroup): MessageText[] {
  const seenAt = new Date(seenAtMs).toISOString();
  return events.map((event, index) => {
    const cursorHere = index === events.length - 1 ? cursor : null;
    return { json: eventJson(event, seenAt, cursorHere), cursor: cursorHere };
  });
}

/** JSON has no line breaks, so each message is one line of data. */
function sseText({ json, cursor }: MessageText): string {
  return `${cursor === null ? '' : `id: ${cursor}\n`}data: ${json}\n\n`;
}
