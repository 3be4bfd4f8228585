import { type ComponentType, lazy, type LazyExoticComponent } from 'react';

/** How long to wait before each further attempt, in milliseconds: about as long as a server takes to restart. */
const pausesMs = [500, 1_000, 2_000, 4_000, 8_000, 16_000];

/**
 * A component that is loaded when it is first shown. React keeps a failure for good, and an outage is no reason
 * to do without a page until it is reloaded: so it is tried again for half a minute before it counts as failed.
 */
export function lazily<Props>(
  load: () => Promise<{ default: ComponentType<Props> }>,
): LazyExoticComponent<ComponentType<Props>> {
  return lazy(async () => {
    for (const pauseMs of pausesMs) {
      try {
        return await load();
      } catch {
        await new Promise((resolve) => setTimeout(resolve, pauseMs));
      }
    }
    return await load();
  });
}
