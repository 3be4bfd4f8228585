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
  /** The state that the user's changes are based on. */
  readonly base: FeatureFields;
  readonly mine: FeatureFields;
  /** The version of `base`. */
  readonly version: string;
  /** The newest state of the flag. */
  readonly seen: FeatureState;
  /** Changes of others: conflicts to resolve, and updates for information. */
  readonly concurrent: readonly ConcurrentChange[];
  readonly concurrentBy: string | null;
}

export interface Edit {
  readonly mine: FeatureFields;
  readonly version: string;
  /** The fields that saving changes. */
  readonly changed: Partial<FeatureFields>;
  readonly concurrent: readonly ConcurrentChange[];
  readonly concurrentBy: string | null;
  /** There are unresolved conflicts: saving is disabled. */
  readonly blocked: boolean;
  readonly set: <Field extends FieldName>(field: Field, value: FeatureFields[Field]) => void;
  readonly keepMine: (field: FieldName) => void;
  readonly takeTheirs: (field: FieldName) => void;
  /** Discards the user's changes. */
  readonly reset: () => void;
  /** Call it after the server has saved the changes. */
  readonly saved: () => void;
  /** Applies the current state, from the server's response to an outdated write. */
  readonly refresh: (feature: FeatureState, by: string | null) => void;
}

/**
 * An edit of a flag that others can change meanwhile. Untouched fields follow the changes of others; if both change a
 * field, the user chooses. `by` is the author of the last change.
 */
export function useEdit(live: FeatureState, by: string | null): Edit {
  const [edit, setEdit] = useState<EditState>(() => startEdit(live));
  // During rendering, not in an effect: the screen never shows an outdated form.
  if (edit.seen !== live && isNewer(live, edit.seen)) setEdit(rebase(edit, live, by));
  const { base, mine, version, concurrent, concurrentBy } = edit;
  const resolve = (field: FieldName, value: Partial<FeatureFields>): void => {
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
    keepMine: (field) => resolve(field, {}),
    takeTheirs: (field) => {
      const theirs = concurrent.find((change) => change.field === field)?.theirs;
      resolve(field, { [field]: theirs });
    },
    reset: () => setEdit(startEdit(live)),
    saved: () => setEdit((before) => ({ ...before, base: before.mine, concurrent: [], concurrentBy: null })),
    refresh: (feature, changedBy) => setEdit((before) => rebase(before, feature, changedBy)),
  };
}

function startEdit(feature: FeatureState): EditState {
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

/** The response to a refused save can be newer than the last event. */
function isNewer(live: FeatureState, seen: FeatureState): boolean {
  return live.version !== seen.version && live.updated_at >= seen.updated_at;
}

/** The edit on top of the current state of the flag. */
function rebase(edit: EditState, feature: FeatureState, by: string | null): EditState {
  const theirs = fieldsOf(feature);
  const added = concurrentChanges(edit.base, edit.mine, theirs);
  const addedFields = new Set(added.map(({ field }) => field));
  const touched = Object.keys(changedFields(edit.base, edit.mine)).length > 0;
  return {
    base: theirs,
    mine: rebaseUntouched(edit.base, edit.mine, theirs),
    version: feature.version,
    seen: feature,
    // Without changes of the user there is nothing to explain: the fields show the current state.
    concurrent: touched ? [...edit.concurrent.filter(({ field }) => !addedFields.has(field)), ...added] : [],
    concurrentBy: touched && added.length > 0 ? by : edit.concurrentBy,
  };
}
