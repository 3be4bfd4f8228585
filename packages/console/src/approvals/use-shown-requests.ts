import { useState } from 'react';
import type { OpenChange } from '../api/types.js';
import { useOpenChanges } from './open-changes.js';
import { withoutRights } from './requests.js';

const byId = (changes: readonly OpenChange[]): ReadonlyMap<string, OpenChange> =>
  new Map(changes.map((change) => [change.id, change]));

/**
 * Keeps a list of requests in place, so that nothing moves under the pointer: new ones wait (with `addsNew` they come
 * first), decided ones stay, also those that the feed has forgotten.
 */
export function useShownRequests(matching: readonly OpenChange[], addsNew = false) {
  const { find } = useOpenChanges();
  const [kept, setKept] = useState(() => byId(matching));
  const added = matching.filter(({ id }) => !kept.has(id));
  // On an empty list nothing can move.
  if (added.length > 0 && (addsNew || kept.size === 0)) setKept(new Map([...byId(added), ...kept]));
  const shown = Array.from(kept.values(), (known) => find(known.id) ?? withoutRights(known));
  if (shown.some((change) => change.status !== 'gone' && change !== kept.get(change.id))) {
    setKept(
      byId(shown.map((change) => (change.status === 'gone' ? (kept.get(change.id) ?? change) : change))),
    );
  }
  return {
    shown,
    /** How many requests `show` would add. */
    waiting: added.length,
    /** Shows the new requests, and removes the decided ones. */
    show: () => setKept(byId(matching)),
  };
}
