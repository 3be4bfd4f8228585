import type { FeatureState } from '@flagcast/client';
import { useState } from 'react';
import type { FeatureFields } from '../api/types.js';
import {
  changedFields,
  type FieldName,
  fieldsOf,
  concurrentChanges,
  type ConcurrentChange,
  rebaseUntouched,
} from './merge.js';

interface EditState {
  /** What the user's changes are changes of. */
  readonly base: FeatureFields;
  readonly mine: FeatureFields;
  /** The version that `base` is, or that the user has come to terms with. */
  readonly version: string;
  /** The newest state that has been looked at. */
  readonly seen: FeatureState;
  /** What others have changed meanwhile, and the user has not answered yet or should know of. */
  readonly concurrent: readonly ConcurrentChange[];
  readonly concurrentBy: string | null;
}

export interface Edit {
  readonly mine: FeatureFields;
  readonly version: string;
  /** What saving would change. */
  readonly changed: Partial<FeatureFields>;
  readonly concurrent: readonly ConcurrentChange[];
  readonly concurrentBy: string | null;
  /** A conflict waits for its answer: saving must wait, too. */
  readonly blocked: boolean;
  readonly set: <Field extends FieldName>(field: Field, value: FeatureFields[Field]) => void;
  readonly keepMine: (field: FieldName) => void;
  readonly takeTheirs: (field: FieldName) => void;
  /** Drops all that the user has changed. */
  readonly reset: () => void;
  /** What the user has changed is saved, as `feature`. */
  readonly saved: () => void;
  /** The server says that this is how the feature is. */
  readonly refresh: (feature: FeatureState, by: string | null) => void;
}

/**
 * An edit of a feature that others may change meanwhile. Fields that the user has not touched follow
 * the others at once; where both have changed one, the user chooses. `by`: who changed it last.
 */
export function useEdit(live: FeatureState, by: string | null): Edit {
  const [edit, setEdit] = useState<EditState>(() => begin(live));
  // Before anything is painted: a stale form must never be on the screen.
  if (edit.seen !== live && isNewer(live, edit.seen)) setEdit(meet(edit, live, by));
  const { base, mine, version, concurrent, concurrentBy } = edit;
  const answer = (field: FieldName, value: Partial<FeatureFields>): void => {
    setEdit((before) => ({
      ...before,
      mine: { ...before.mine, ...value },
      concurrent: before.concurrent.filter((change) => change.field !== field),
    }));
  };
  return {
    mine,
    version,
    changed: changedFields(base, mine),
    concurrent,
    concurrentBy,
    blocked: concurrent.some(({ conflict }) => conflict),
    set: (field, value) => setEdit((before) => ({ ...before, mine: { ...before.mine, [field]: value } })),
    keepMine: (field) => answer(field, {}),
    takeTheirs: (field) => {
      const theirs = concurrent.find((change) => change.field === field)?.theirs;
      answer(field, { [field]: theirs });
    },
    reset: () => setEdit(begin(live)),
    saved: () => setEdit((before) => ({ ...before, base: before.mine, concurrent: [], concurrentBy: null })),
    refresh: (feature, changedBy) => setEdit((before) => meet(before, feature, changedBy)),
  };
}

function begin(feature: FeatureState): EditState {
  const fields = fieldsOf(feature);
  return {
    base: fields,
    mine: fields,
    version: feature.version,
    seen: feature,
    concurrent: [],
    concurrentBy: null,
  };
}

/** The answer to a refused save may be ahead of the events that lead there. */
function isNewer(live: FeatureState, seen: FeatureState): boolean {
  return live.version !== seen.version && live.updated_at >= seen.updated_at;
}

/** The edit, come to terms with the feature as it is now. */
function meet(edit: EditState, feature: FeatureState, by: string | null): EditState {
  const theirs = fieldsOf(feature);
  const fresh = concurrentChanges(edit.base, edit.mine, theirs);
  const renewed = new Set(fresh.map(({ field }) => field));
  const touched = Object.keys(changedFields(edit.base, edit.mine)).length > 0;
  return {
    base: theirs,
    mine: rebaseUntouched(edit.base, edit.mine, theirs),
    version: feature.version,
    seen: feature,
    // Who is only looking needs no help: the fields show what is there.
    concurrent: touched ? [...edit.concurrent.filter(({ field }) => !renewed.has(field)), ...fresh] : [],
    concurrentBy: touched && fresh.length > 0 ? by : edit.concurrentBy,
  };
}
