import type { Channel, Client, EventMessage } from '@flagcast/client';

/** When one event passed each stage, in milliseconds since the epoch. */
export interface Delivery {
  readonly event: EventMessage;
  /** By the database's clock; null where it does not record it. */
  readonly committedAtMs: number | null;
  /** By the server's clock. */
  readonly seenAtMs: number;
  /** By this machine's clock, as the next two. */
  readonly receivedAtMs: number;
  /** When the first frame began that shows it. */
  readonly appliedAtMs: number;
}

interface DeliveryView {
  /** Newest first, at most 100. */
  readonly recent: readonly Delivery[];
  /** How often the connection came back since the page opened this environment. */
  readonly reconnects: number;
}

export interface Deliveries {
  readonly getView: () => DeliveryView;
  readonly subscribe: (listener: () => void) => () => void;
  readonly stop: () => void;
}

const kept = 100;

/** Follows the events of a channel from their commit to the screen. */
export function createDeliveries(client: Client, channel: Channel): Deliveries {
  const listeners = new Set<() => void>();
  let view: DeliveryView = { recent: [], reconnects: 0 };
  let arrived: Omit<Delivery, 'appliedAtMs'>[] = [];
  let lost = false;
  const show = (next: Partial<DeliveryView>): void => {
    view = { ...view, ...next };
    for (const listener of [...listeners]) listener();
  };
  const offStatus = client.subscribe(() => {
    const status = client.getStatus();
    const isDisconnected = status.state === 'stale' && status.reason === 'disconnected';
    const isConnected = status.state === 'live' || (status.state === 'stale' && !isDisconnected);
    if (isConnected && lost) show({ reconnects: view.reconnects + 1 });
    lost = isDisconnected || (lost && !isConnected);
  });
  const offEvent = channel.onEvent((event) => {
    arrived.push({
      event,
      committedAtMs: event.committed_at === null ? null : Date.parse(event.committed_at),
      seenAtMs: Date.parse(event.seen_at),
      receivedAtMs: Date.now(),
    });
    if (arrived.length > 1) return;
    // One frame shows all that has come before it, so a burst is noted down once.
    requestAnimationFrame(() => {
      const appliedAtMs = Date.now();
      const fresh = arrived.map((delivery) => ({ ...delivery, appliedAtMs })).reverse();
      arrived = [];
      show({ recent: [...fresh, ...view.recent].slice(0, kept) });
    });
  });
  return {
    getView: () => view,
    subscribe: (listener) => {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    stop: () => {
      offStatus();
      offEvent();
    },
  };
}
