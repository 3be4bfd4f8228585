import type { PlainMessage } from '@flagcast/protocol';
import type { Dialect } from '../events/dialect.js';
import type { FlagEvent } from '../events/event.js';
import { textFrame } from './frame.js';

/** The name of each step of an approval in the type of its message; its action is the status itself. */
const pendingStep: Readonly<Record<string, string>> = { pending: 'created' };

/** The event as the specification's message: eight keys, in its order. */
export function toPlainMessage(event: FlagEvent): PlainMessage {
  return {
    source: event.source,
    type:
      event.source === 'pending'
        ? `pending_change_${pendingStep[event.action] ?? event.action}`
        : `${event.entity}_${event.action}`,
    timestamp: event.createdAt,
    project_id: event.projectId,
    environment: event.environmentKey,
    entity: event.entity,
    entity_id: event.entityId,
    action: event.action,
  };
}

/** The plain dialect: each event is one text message. */
export const plainDialect: Dialect = {
  name: 'plain',
  encode: ({ events }) =>
    Buffer.concat(events.map((event) => textFrame(JSON.stringify(toPlainMessage(event))))),
};
