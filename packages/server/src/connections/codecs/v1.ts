import type { ControlMessage, EventMessage, HeartbeatMessage } from '@flagcast/protocol';
import type { Dialect, EventGroup } from '../../events/dialect.js';
import type { FlagEvent } from '../../events/event.js';
import { cursorOf, type Position } from '../../events/position.js';
import { joined, textFrame } from './frame.js';
import { toPlainMessage } from './plain.js';

/** How flagcast.v1 is sent: as WebSocket frames or as server-sent events. */
export interface V1Wire {
  readonly dialect: Dialect;
  /** Of the approvals feed. */
  readonly feedDialect: Dialect;
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

type Feed = 'approvals' | null;

/** The plain message with the keys that flagcast.v1 adds, as JSON. States are JSON of the database, sent unchanged. */
function eventJson(
  event: FlagEvent,
  seenAt: string,
  { cursor, feed }: { cursor: string | null; feed: Feed },
): string {
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
    ...(event.pendingChangeUnreadable ? { pending_change_unreadable: true as const } : {}),
    ...(feed === null ? {} : { feed }),
    ...(cursor === null ? {} : { cursor }),
  };
  let json = JSON.stringify(message);
  for (const [key, state] of [
    ['feature', event.featureJson],
    ['pending_change', event.pendingChangeJson],
  ] as const) {
    if (state !== undefined) json = `${json.slice(0, -1)},"${key}":${state ?? 'null'}}`;
  }
  return json;
}

/** On a WebSocket each message is a text frame; the last event of a batch has the cursor. */
export const v1Wire: V1Wire = {
  dialect: socketDialect(null),
  feedDialect: socketDialect('approvals'),
  control: (message) => textFrame(JSON.stringify(message)),
};

/** The same messages as server-sent events. The cursor of a message is its id, too. */
export const sseWire: V1Wire = {
  dialect: streamDialect(null),
  feedDialect: streamDialect('approvals'),
  control: (message) => {
    const cursor = 'cursor' in message ? message.cursor : null;
    return Buffer.from(sseText({ json: JSON.stringify(message), cursor }));
  },
};

function socketDialect(feed: Feed): Dialect {
  return {
    name: 'flagcast.v1',
    encode: (batch) => joined(messagesOf(batch, feed).map(({ json }) => textFrame(json))),
  };
}

function streamDialect(feed: Feed): Dialect {
  return { name: 'sse', encode: (batch) => Buffer.from(messagesOf(batch, feed).map(sseText).join('')) };
}

interface MessageText {
  readonly json: string;
  readonly cursor: string | null;
}

function messagesOf({ events, seenAtMs, cursor: last }: EventGroup, feed: Feed): MessageText[] {
  const seenAt = new Date(seenAtMs).toISOString();
  return events.map((event, index) => {
    const cursor = index === events.length - 1 ? last : null;
    return { json: eventJson(event, seenAt, { cursor, feed }), cursor };
  });
}

/** Each message is one line of data. PostgreSQL writes line breaks between the elements of a list, where they have no meaning. */
function sseText({ json, cursor }: MessageText): string {
  return `${cursor === null ? '' : `id: ${cursor}\n`}data: ${json.replaceAll(/[\r\n]/g, ' ')}\n\n`;
}
