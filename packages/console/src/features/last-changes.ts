import type { Channel, Client } from '@flagcast/client';
import { actionOf } from '../api/actions.js';

/** An event of a feature since the page was opened. */
export interface LastChange {
  readonly eventId: string;
  readonly rowId: string;
  readonly actor: string | null;
  /** RFC 3339. */
  readonly timestamp: string;
  /** Time of arrival, in milliseconds since the epoch. */
  readonly arrivedAtMs: number;
  /** The result of `actionOf`. */
  readonly action: string;
}

/** By feature id. */
export interface LastChanges {
  /** The newest change of the feature itself. */
  readonly made: (featureId: string) => LastChange | undefined;
  /** The newest event, including steps of approvals. */
  readonly newest: (featureId: string) => LastChange | undefined;
  /** Calls the listener when changes arrived as a snapshot, without events. Both maps are empty then. */
  readonly onMissed: (listener: () => void) => () => void;
  readonly stop: () => void;
}

/** Follows the events of a channel. `environmentId` is that of its environment, whose key can change. */
export function createLastChanges(client: Client, channel: Channel, environmentId: string): LastChanges {
  const made = new Map<string, LastChange>();
  const newest = new Map<string, LastChange>();
  const listeners = new Set<() => void>();
  let hasSnapshot = false;
  const stopMessages = client.onMessage((message) => {
    if (!('features' in message) || message.project_id !== channel.projectId) return;
    if (message.environment_id !== environmentId) return;
    if (hasSnapshot) {
      made.clear();
      newest.clear();
      for (const listener of [...listeners]) listener();
    }
    // The page loads its lists itself when it opens: the first snapshot is no reason to load them again.
    hasSnapshot = true;
  });
  const stopEvents = channel.onEvent((event) => {
    const { id, row_id: rowId, feature_id: featureId, actor, timestamp } = event;
    if (featureId === null) return;
    const change = { eventId: id, rowId, actor, timestamp, arrivedAtMs: Date.now(), action: actionOf(event) };
    newest.set(featureId, change);
    if (event.source === 'audit') made.set(featureId, change);
  });
  return {
    made: (featureId) => made.get(featureId),
    newest: (featureId) => newest.get(featureId),
    onMissed: (listener) => {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    stop: () => {
      stopMessages();
      stopEvents();
    },
  };
}
