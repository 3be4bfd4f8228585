import type { EventMessage, PendingChange } from '#protocol';

/** Returns the request after a step of its approval; null if it was deleted. `known` is the request before. */
export function requestAfter(event: EventMessage, known?: PendingChange): PendingChange | null {
  const { action, actor, entity, entity_id, feature_id, timestamp } = event;
  if (event.pending_change !== undefined) return event.pending_change;
  // The server cannot read the request.
  const unknown = { feature_key: null, feature_name: null, feature_version: null, diff: [] };
  const isOpen = action === 'pending' || action === 'updated';
  return {
    ...event,
    id: event.pending_change_id ?? '',
    requested_by: (isOpen && actor) || '',
    requested_by_id: null,
    created_at: timestamp,
    version: '',
    reason: null,
    decision_reason: null,
    ...known,
    decided_by: isOpen ? null : actor,
    decided_at: isOpen ? null : timestamp,
    status: isOpen ? 'pending' : action,
    entities: [
      // A change of several entities arrives as one event per entity.
      ...(known?.entities ?? []).filter((other) => other.entity_id !== entity_id),
      { entity, entity_id, feature_id, action: null, ...unknown },
    ],
  };
}
