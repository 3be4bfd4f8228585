import { useState } from 'react';
import type { OpenChange } from '../api/types.js';
import { useOpenChanges } from './open-changes.js';

interface ShownRequests {
  readonly shown: readonly OpenChange[];
  /** How many requests `show` would add. */
  readonly waiting: number;
  /** Shows the new requests, and removes the decided ones. */
  readonly show: () => void;
}

const idsOf = (changes: readonly OpenChange[]): string[] => changes.map(({ id }) => id);

/** Keeps a list of requests in place, so that nothing moves under the pointer: new ones wait, decided ones stay. */
export function useShownRequests(matching: readonly OpenChange[]): ShownRequests {
  const { find } = useOpenChanges();
  const [ids, setIds] = useState(() => idsOf(matching));
  // On an empty list nothing can move.
  if (ids.length === 0 && matching.length > 0) setIds(idsOf(matching));
  const known = new Set(ids);
  return {
    shown: ids.flatMap((id) => find(id) ?? []),
    waiting: matching.filter(({ id }) => !known.has(id)).length,
    show: () => setIds(idsOf(matching)),
  };
}
