import { onTestFinished } from 'vitest';
import type { Batch, FlagEvent } from '../src/events/event.js';
import { Lifecycle, type LifecycleEvents } from '../src/lifecycle.js';
import { type OpenSession, Session } from '../src/postgres/session.js';
import { EventReader, type EventReaderOptions } from '../src/reader/reader.js';
import type { TestDatabase } from './database.js';
import { nextEvent } from './server.js';

export interface TestReader {
  readonly reader: EventReader;
  readonly lifecycle: Lifecycle;
  /** All that it has delivered, in order. */
  readonly events: FlagEvent[];
  readonly batches: Batch[];
  /** The entities of `events`. */
  readonly delivered: () => string[];
  /** Wakes the reader and waits for a read that starts afterwards. */
  readonly read: () => Promise<LifecycleEvents['reader:read'][0]>;
  /** Waits until it has delivered an event of this entity. */
  readonly arrival: (entityId: string) => Promise<FlagEvent>;
}

/** Opens sessions outside of a server's budget. */
export function sessionOpener(database: Pick<TestDatabase, 'url'>): OpenSession {
  return async (options) => await Session.open({ ...options, database: { url: database.url } });
}

/** Those of the server, without a listener. */
export const readerOptions = {
  openListenSession: null,
  view: null,
  overlapMs: 60_000,
  queryTimeoutMs: 30_000,
  onHistoryLost: () => undefined,
  hasRoom: () => true,
} as const;

/** A reader that polls once an hour unless the options say otherwise; it stops when the test ends. */
export async function startTestReader(
  database: Pick<TestDatabase, 'url'>,
  options: Partial<EventReaderOptions> = {},
): Promise<TestReader> {
  const lifecycle = options.lifecycle ?? new Lifecycle();
  const events: FlagEvent[] = [];
  const batches: Batch[] = [];
  let onArrival: () => void = () => undefined;
  const reader = new EventReader({
    ...readerOptions,
    openSession: sessionOpener(database),
    pollIntervalMs: 3_600_000,
    ...options,
    lifecycle,
    onBatch: (batch) => {
      batches.push(batch);
      events.push(...batch.events);
      options.onBatch?.(batch);
      onArrival();
    },
  });
  const started = nextEvent(lifecycle, 'reader:started');
  reader.start();
  onTestFinished(async () => await reader.stop());
  await started;
  return {
    reader,
    lifecycle,
    events,
    batches,
    delivered: () => events.map(({ entityId }) => entityId),
    read: async () => {
      const askedAtMs = performance.now();
      // Its batch is handed on before.
      const isLater = (): boolean => (batches.at(-1)?.beganAtMs ?? 0) >= askedAtMs;
      const done = nextEvent(lifecycle, 'reader:read', isLater);
      reader.requestBatch();
      return await done;
    },
    arrival: async (entityId) => {
      for (;;) {
        const found = events.find((event) => event.entityId === entityId);
        if (found !== undefined) return found;
        await new Promise<void>((resolve) => (onArrival = resolve));
      }
    },
  };
}
