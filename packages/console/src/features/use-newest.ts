import type { FeatureState } from '@flagcast/client';
import { useState } from 'react';

interface Answer {
  readonly feature: FeatureState;
  /** The versions that are known to be older. */
  readonly older: ReadonlySet<string>;
}

/**
 * The newest known state of a flag: that of the server's last answer to a write, until events lead past it; and the function
 * that takes an answer to a write that was based on a version. A paused list follows what its user does, too. Times cannot
 * order the states: a transaction that commits late has an early one.
 */
export function useNewest(live: FeatureState) {
  const [answer, setAnswer] = useState<Answer | null>(null);
  const take = (feature: FeatureState, base: string): void =>
    setAnswer((before) => ({ feature, older: new Set(before?.older).add(base) }));
  return [answer?.older.has(live.version) === true ? answer.feature : live, take] as const;
}
