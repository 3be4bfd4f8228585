import type { PlainMessage } from '@flagcast/protocol';
import type { Dialect } from '../../events/dialect.js';
import type { FlagEvent } from '../../events/event.js';
import { joined, textFrame } from './frame.js';

/** The names of event types in the plain dialect: the specification's, or those of Togglr's server and web client. */
export type EventTypes = 'spec' | 'togglr';

/** Steps of an approval whose name in the message type is not their status. */
const pendingStep: ReadonlyMap<string, string> = new Map([['pending', 'created']]);

/** The specification's message: eight keys, in its order. */
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

/** The plain dialect: each event is one text frame. All connections share one Dialect, because each encodes a batch once. */
export function createPlainDialect(eventTypes: EventTypes): Dialect {
  const toMessage = eventTypes === 'togglr' ? toTogglrMessage : toPlainMessage;
  return {
    name: 'plain',
    encode: ({ events }) => joined(events.map((event) => textFrame(JSON.stringify(toMessage(event))))),
  };
}

/** The actions as Togglr's tables store them, by their names in the view. */
const storedActions = new Map([
  ['created', 'create'],
  ['updated', 'update'],
  ['deleted', 'delete'],
]);

/** The same eight keys with the names that Togglr's web client expects; see PROTOCOL.md. */
function toTogglrMessage(event: FlagEvent): PlainMessage {
  const message = toPlainMessage(event);
  if (event.source === 'pending') {
    const isRequest = event.action === 'pending';
    // Togglr's client has no name for a decision. This one makes it load the feature again.
    return { ...message, type: isRequest ? `${event.entity}_pending` : 'feature_updated' };
  }
  if (event.entity !== 'feature' && event.featureId !== null) {
    // Togglr reports the change of a rule or a schedule as one of its feature.
    return {
      ...message,
      type: 'feature_update',
      entity: 'feature',
      entity_id: event.featureId,
      action: 'update',
    };
  }
  const action = storedActions.get(event.action) ?? event.action;
  // Togglr's server sends feature_delete, which its client does not know.
  return { ...message, type: `${event.entity}_${action === 'delete' ? 'deleted' : action}`, action };
}

/** The answer to a message: a pong to `{"type":"ping"}`; none to anything else, which has no meaning. */
export function answerPlain(data: Buffer): Buffer | null {
  let message: unknown;
  try {
    message = JSON.parse(data.toString('utf8'));
  } catch {
    return null;
  }
  if (typeof message !== 'object' || message === null) return null;
  if (!('type' in message) || message.type !== 'ping') return null;
  return textFrame(JSON.stringify({ type: 'pong', timestamp: Math.floor(Date.now() / 1_000) }));
}
