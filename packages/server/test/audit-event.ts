import type { FlagEvent } from '../src/events/event.js';

/** An event without states, as the reader returns it. */
export function auditEvent(given: Pick<FlagEvent, 'id' | 'xid' | 'rowId' | 'entityId'>): FlagEvent {
  return {
    ...given,
    source: 'audit',
    projectId: 'project',
    environmentId: '1',
    environmentKey: 'prod',
    entity: 'feature',
    action: 'updated',
    createdAt: '2026-01-01T00:00:00.000000Z',
    featureId: null,
    pendingChangeId: null,
    actor: null,
    committedAt: null,
    featureJson: null,
    featureUnreadable: false,
    pendingChangeJson: undefined,
    pendingChangeUnreadable: false,
  };
}
