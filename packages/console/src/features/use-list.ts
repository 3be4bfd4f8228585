import { useFeatures, usePendingChanges } from '@flagcast/client/react';
import { useDeferredValue, useMemo } from 'react';
import { type LiveEnvironment, useAllEnvironments } from '../api/all-environments.js';
import { useScope } from '../shell/scope.js';
import { type ListedState, listFeatures } from './feature-list.js';
import { useFrozen } from './use-frozen.js';
import type { View } from './use-list-view.js';

interface List {
  /** The ids of the listed flags, in order. */
  readonly ids: readonly string[];
  /** The state at the time of sorting: a flag can be deleted meanwhile. */
  readonly sorted: ListedState;
  /** The state to show. */
  readonly state: ListedState;
  /** The environments with a column of their own. */
  readonly others: readonly LiveEnvironment[];
  /** Flags have changed in a way that gives them another place, which they do not take yet. */
  readonly isFrozen: boolean;
}

/** The flags of the environment. While it is paused, nothing changes; under the pointer, the order does not. */
export function useList(view: View, paused: boolean, hovered: boolean): List {
  const features = useFeatures();
  const pending = usePendingChanges();
  const { environment } = useScope();
  // After the first rows, which would wait for them.
  const environments = useAllEnvironments(
    features.size > 0 && (view.differs || view.environments.length > 0),
  );
  const current = useMemo(() => ({ features, pending, environments }), [features, pending, environments]);
  // Typing and clicking have priority over sorting thousands of rows.
  const deferred = useDeferredValue(current);
  // The first rows do not wait.
  const sorted = deferred.features.size === 0 ? current : deferred;
  const sortedView = useDeferredValue(view);
  const next = useMemo(() => ({ ids: listFeatures(sorted, sortedView), sorted }), [sorted, sortedView]);
  const shown = useFrozen(next, paused || hovered, sortedView);
  const state = paused ? shown.sorted : current;
  return {
    ...shown,
    state,
    others: state.environments.filter(
      (each) => each.environment.id !== environment.id && view.environments.includes(each.environment.key),
    ),
    isFrozen: !paused && shown !== next && !sameOrder(shown.ids, next.ids),
  };
}

function sameOrder(one: readonly string[], other: readonly string[]): boolean {
  return one.length === other.length && one.every((id, index) => id === other[index]);
}
