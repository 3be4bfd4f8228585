import type { EventMessage } from '@flagcast/protocol';
import type { SessionWire } from '../session.js';
import type { Dialect, EventGroup } from '../../events/dialect.js';
import type { FlagEvent } from '../../events/event.js';
import { textFrame } from './frame.js';
import { toPlainMessage } from './plain.js';

/**
 * The event as flagcast.v1 sends it, as JSON text: the plain message and what v1 adds. The feature's
 * state comes from the database as JSON and is passed on as it is.
 */
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

/** flagcast.v1 on a WebSocket: each message one text frame; the last event of a batch carries the cursor. */
const v1Dialect: Dialect = {
  name: 'flagcast.v1',
  encode: (batch) => Buffer.concat(messagesOf(batch).map(({ json }) => textFrame(json))),
};

/** The same messages as server-sent events; the id of one with a cursor is the cursor. */
const sseDialect: Dialect = {
  name: 'sse',
  encode: (batch) => Buffer.from(messagesOf(batch).map(sseText).join('')),
};

/** flagcast.v1 over a WebSocket. */
export const v1Wire: SessionWire = {
  dialect: v1Dialect,
  control: (message) => textFrame(JSON.stringify(message)),
};

/** flagcast.v1 as server-sent events. */
export const sseWire: SessionWire = {
  dialect: sseDialect,
  control: (message) =>
    Buffer.from(
      sseText({ json: JSON.stringify(message), cursor: 'cursor' in message ? message.cursor : null }),
    ),
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

/** JSON holds no line breaks, so that each message is one line of data. */
function sseText({ json, cursor }: MessageText): string {
  return `${cursor === null ? '' : `id: ${cursor}\n`}data: ${json}\n\n`;
}
