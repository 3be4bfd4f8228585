import type { EventMessage, PendingChange } from '#protocol';

/**
 * Returns the request after a step of its approval; null if it was deleted or is not known. `known` is the request
 * before.
 */
export function requestAfter(event: EventMessage, known?: PendingChange): PendingChange | null {
  const { action, actor, entity, entity_id, feature_id, timestamp } = event;
  const isOpen = action === 'pending' || action === 'updated';
  const decision = {
    decided_by: isOpen ? null : actor,
    decided_at: isOpen ? null : timestamp,
    status: isOpen ? 'pending' : action,
  };
  const { pending_change: request } = event;
  // The host records no cancellations: only the step says whose it is.
  if (request?.status === 'cancelled' && request.status === action) return { ...request, ...decision };
  if (request !== undefined) return request;
  // A new snapshot will have it. Until then an empty one must not be shown.
  if (event.pending_change_unreadable) return known ? { ...known, ...decision } : null;
  // The server has no tables of requests.
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
    ...decision,
    entities: [
      // A change of several entities arrives as one event per entity.
      ...(known?.entities ?? []).filter((other) => other.entity_id !== entity_id),
      {
        entity,
        entity_id,
        feature_id,
        action: null,
        feature_key: null,
        feature_name: null,
        feature_version: null,
        diff: [],
      },
    ],
  };
}
