import type { FeatureState } from '@flagcast/client';
import { useState } from 'react';
import { useLiveChannel } from '../api/live.js';

/** The body of a refusal of an outdated write; `changed_by`, with its number in the audit log, is null if unknown. */
export interface StaleVersion {
  readonly current: FeatureState;
  readonly changed_by: { readonly username: string; readonly audit_id: string } | null;
}

/**
 * The newest known state of a flag: that of the server's last answer to a write, until events lead past it; the function that
 * takes an answer to a write that was based on a version; and the answer's author while it is the newest. A paused list
 * follows what its user does, too. Times cannot order the states: a transaction that commits late has an early one.
 */
export function useNewest(live: FeatureState) {
  const { lastChanges } = useLiveChannel();
  /** `older`: the versions that are known to be older. */
  const [answer, setAnswer] = useState({
    feature: live,
    change: null as StaleVersion['changed_by'],
    older: new Set<string>(),
  });
  const take = (feature: FeatureState, base: string, change: StaleVersion['changed_by'] = null): void =>
    setAnswer(({ older }) => ({ feature, change, older: new Set(older).add(base) }));
  // Nothing is less than NaN: without an event of the flag, or with an answer to the user's own change.
  const isBefore = Number(lastChanges.made(live.id)?.rowId) < Number(answer.change?.audit_id);
  if (!isBefore && !answer.older.has(live.version)) return [live, take] as const;
  return [answer.feature, take, answer.change?.username ?? null] as const;
}
