import type { Channel, Client, EventMessage } from '@flagcast/client';

/** When one event passed each stage, in milliseconds since the epoch. */
export interface Delivery {
  readonly event: EventMessage;
  /** By the clock of the database; null if it is not recorded. */
  readonly committedAtMs: number | null;
  /** By the clock of the server. */
  readonly seenAtMs: number;
  /** By the clock of the browser, as is `appliedAtMs`. */
  readonly receivedAtMs: number;
  /** Start of the first frame that shows the event. */
  readonly appliedAtMs: number;
}

interface DeliveryView {
  /** Newest first, at most 100. */
  readonly recent: readonly Delivery[];
  /** Number of reconnects since the page opened this environment. */
  readonly reconnects: number;
}

export interface Deliveries {
  readonly getView: () => DeliveryView;
  readonly subscribe: (listener: () => void) => () => void;
  readonly stop: () => void;
}

const maxRecent = 100;

/** Measures the delivery of the events of a channel, from the commit to the screen. */
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
    // One frame shows all events that arrived before it, so a burst renders once.
    requestAnimationFrame(() => {
      const appliedAtMs = Date.now();
      const applied = arrived.map((delivery) => ({ ...delivery, appliedAtMs })).reverse();
      arrived = [];
      show({ recent: [...applied, ...view.recent].slice(0, maxRecent) });
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
