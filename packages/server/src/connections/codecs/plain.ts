import type { PlainMessage } from '@flagcast/protocol';
import type { Dialect } from '../../events/dialect.js';
import type { FlagEvent } from '../../events/event.js';
import { textFrame } from './frame.js';

/** Whose names the plain dialect calls events by: the specification's, or those that Togglr's server and web client use. */
export type EventTypes = 'spec' | 'togglr';

/** The name of each step of an approval in the type of its message; its action is the status itself. */
const pendingStep: ReadonlyMap<string, string> = new Map([['pending', 'created']]);

/** The event as the specification's message: eight keys, in its order. */
export function toPlainMessage(event: FlagEvent): PlainMessage {
  return {
    source: event.source,
    type:
      event.source === 'pending'
        ? `pending_change_${pendingStep.get(event.action) ?? event.action}`
        : `${event.entity}_${event.action}`,
    timestamp: event.createdAt,
    project_id: event.projectId,
    environment: event.environmentKey,
    entity: event.entity,
    entity_id: event.entityId,
    action: event.action,
  };
}

/** The plain dialect: each event is one text message. Make one for all peers: a batch is encoded once for each. */
export function createPlainDialect(eventTypes: EventTypes): Dialect {
  const toMessage = eventTypes === 'togglr' ? toTogglrMessage : toPlainMessage;
  return {
    name: 'plain',
    encode: ({ events }) => Buffer.concat(events.map((event) => textFrame(JSON.stringify(toMessage(event))))),
  };
}

/** The actions as Togglr's tables store them, by their names in the view. */
const storedActions = new Map([
  ['created', 'create'],
  ['updated', 'update'],
  ['deleted', 'delete'],
]);

/** The same eight keys with the names that Togglr's web client goes by; see PROTOCOL.md. */
function toTogglrMessage(event: FlagEvent): PlainMessage {
  const message = toPlainMessage(event);
  if (event.source === 'pending') {
    const isRequest = event.action === 'pending';
    // Its own server tells of no decision, so its client has no name for one: this one makes it look again.
    return { ...message, type: isRequest ? `${event.entity}_pending` : 'feature_updated' };
  }
  if (event.entity !== 'feature' && event.featureId !== null) {
    // Its own view tells of every change of a part as one of the feature.
    return {
      ...message,
      type: 'feature_update',
      entity: 'feature',
      entity_id: event.featureId,
      action: 'update',
    };
  }
  const action = storedActions.get(event.action) ?? event.action;
  // Its server says feature_delete, which its client does not know.
  return { ...message, type: `${event.entity}_${action === 'delete' ? 'deleted' : action}`, action };
}
