import type { Channel } from '@flagcast/client';

/** The newest change of a feature that came while the page was open. */
export interface LastChange {
  readonly eventId: string;
  readonly actor: string | null;
  /** RFC 3339. */
  readonly timestamp: string;
  /** When it came, in milliseconds since the epoch. */
  readonly arrivedAtMs: number;
  readonly action: string;
}

export interface LastChanges {
  /** By feature id. */
  readonly get: (featureId: string) => LastChange | undefined;
  readonly stop: () => void;
}

export function createLastChanges(channel: Channel): LastChanges {
  const changes = new Map<string, LastChange>();
  const stop = channel.onEvent((event) => {
    if (event.feature_id === null) return;
    changes.set(event.feature_id, {
      eventId: event.id,
      actor: event.actor,
      timestamp: event.timestamp,
      arrivedAtMs: Date.now(),
      action: event.action,
    });
  });
  return { get: (featureId) => changes.get(featureId), stop };
}
