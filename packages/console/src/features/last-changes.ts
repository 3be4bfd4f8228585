import type { Channel } from '@flagcast/client';
import { actionOf } from '../api/actions.js';

/** An event of a feature since the page was opened. */
export interface LastChange {
  readonly eventId: string;
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
  readonly stop: () => void;
}

export function createLastChanges(channel: Channel): LastChanges {
  const made = new Map<string, LastChange>();
  const newest = new Map<string, LastChange>();
  const stop = channel.onEvent((event) => {
    const { id, feature_id: featureId, actor, timestamp } = event;
    if (featureId === null) return;
    const change = { eventId: id, actor, timestamp, arrivedAtMs: Date.now(), action: actionOf(event) };
    newest.set(featureId, change);
    if (event.source === 'audit') made.set(featureId, change);
  });
  return { made: (featureId) => made.get(featureId), newest: (featureId) => newest.get(featureId), stop };
}
