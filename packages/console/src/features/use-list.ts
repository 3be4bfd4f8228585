import { useFeatures, usePendingChanges } from '@flagcast/client/react';
import { useDeferredValue, useMemo, useState } from 'react';
import { useAllEnvironments } from '../api/all-environments.js';
import { useScope } from '../shell/scope.js';
import { type ListedState, listFeatures } from './feature-list.js';
import { useFrozen } from './use-frozen.js';
import type { View } from './use-list-view.js';

const maxSortedAtOnce = 1_000;

/** The order, and the state that it is the order of. */
interface SortedList {
  readonly ids: readonly string[];
  readonly sorted: ListedState;
}

/** The flags of the environment. While it is paused, nothing changes; under the pointer, the order does not. */
export function useList(view: View, paused: boolean, hovered: boolean) {
  const features = useFeatures();
  const pending = usePendingChanges();
  const { environment } = useScope();
  // After the first rows, which would wait for them.
  const environments = useAllEnvironments(
    features.size > 0 && (view.differs || view.environments.length > 0),
  );
  const current = useMemo(() => ({ features, pending, environments }), [features, pending, environments]);
  // Typing and clicking have priority over sorting thousands of rows. Fewer are sorted with the change, not after it: the
  // page would render twice.
  const deferred = useDeferredValue(features.size > maxSortedAtOnce ? current : null);
  const sorted = deferred ?? current;
  const sortedView = useDeferredValue(view);
  const sortedIds = useSameOrder(useMemo(() => listFeatures(sorted, sortedView), [sorted, sortedView]));
  const next = useMemo(() => ({ ids: sortedIds, sorted }), [sortedIds, sorted]);
  const shown = useFrozen(next, paused || hovered, sortedView);
  const state = paused ? shown.sorted : current;
  return {
    /** The ids of the listed flags, in order. */
    ids: shown.ids,
    /** The number of all flags. */
    count: shown.sorted.features.size,
    /** The state to show. */
    state,
    /** The listed flags that have been deleted since the list was sorted, as they were then. */
    gone: useMemo(() => goneFrom(state, shown), [state, shown]),
    /** The environments with a column of their own. */
    others: useMemo(
      () =>
        state.environments.filter(
          (each) =>
            each.environment.id !== environment.id && view.environments.includes(each.environment.key),
        ),
      [state.environments, environment, view],
    ),
    /** Flags have changed in a way that gives them another place, which they do not take yet. */
    isFrozen: !paused && !sameOrder(shown.ids, sortedIds),
  };
}

const none: ListedState['features'] = new Map();

function goneFrom({ features }: ListedState, { ids, sorted }: SortedList): ListedState['features'] {
  const gone = ids.filter((id) => !features.has(id));
  if (gone.length === 0) return none;
  return new Map(
    gone.flatMap((id) => {
      const feature = sorted.features.get(id);
      return feature === undefined ? [] : [[id, feature]];
    }),
  );
}

/** Returns the list of the last rendering while it is the same: what shows it need not render again. */
function useSameOrder(ids: readonly string[]): readonly string[] {
  const [known, setKnown] = useState(ids);
  if (sameOrder(known, ids)) return known;
  setKnown(ids);
  return ids;
}

function sameOrder(one: readonly string[], other: readonly string[]): boolean {
  return one === other || (one.length === other.length && one.every((id, index) => id === other[index]));
}
