import type { FeatureState } from '@flagcast/client';
import { useEffect, useState } from 'react';
import type { FeatureFields } from '../api/types.js';
import { useDraft } from '../features/use-draft.js';
import { type StaleVersion, useNewest } from '../features/use-newest.js';
import { useScope } from '../shell/scope.js';
import {
  changedFields,
  type EditState,
  type FieldName,
  followState,
  keepMine,
  setField,
  startEdit,
  takeTheirs,
} from './edit-state.js';

export interface Edit extends EditState {
  /** The fields that saving changes. */
  readonly changed: Partial<FeatureFields>;
  /** There are such fields. */
  readonly isDirty: boolean;
  /** There are unresolved conflicts: saving is disabled. */
  readonly blocked: boolean;
  readonly set: <Field extends FieldName>(field: Field, value: FeatureFields[Field]) => void;
  readonly keepMine: (field: FieldName) => void;
  readonly takeTheirs: (field: FieldName) => void;
  /** Discards the user's changes. */
  readonly reset: () => void;
  /** Starts again from the state that the server has saved. */
  readonly saved: (feature: FeatureState) => void;
  /** Applies the current state, from the server's response to an outdated write. */
  readonly refresh: (refusal: StaleVersion) => void;
}

/** An edit of a flag that others can change meanwhile. It is kept in this tab until it is saved or discarded. `by` is the author of the last change. */
export function useEdit(live: FeatureState, by: string | null): Edit {
  const { environment } = useScope();
  const draft = useDraft<EditState>(`edit ${live.id} ${environment.id}`);
  // The draft follows what has changed since.
  const [edit, setEdit] = useState<EditState>(() => draft.read() ?? startEdit(live));
  const [newest, takeAnswer, author = by] = useNewest(live);
  // During rendering, not in an effect: the screen never shows an outdated form.
  const current = followState(edit, newest, author);
  if (current !== edit) setEdit(current);
  const changed = changedFields(current);
  const isDirty = Object.keys(changed).length > 0;
  useEffect(() => {
    draft.write(isDirty ? { ...current, arrived: null } : null);
  }, [draft, current, isDirty]);
  return {
    ...current,
    changed,
    isDirty,
    blocked: current.concurrent.some(({ conflict }) => conflict),
    set: (field, value) => setEdit((before) => setField(before, field, value)),
    keepMine: (field) => setEdit((before) => keepMine(before, field)),
    takeTheirs: (field) => setEdit((before) => takeTheirs(before, field)),
    reset: () => setEdit(startEdit(newest)),
    saved: (feature) => {
      takeAnswer(feature, current.version);
      setEdit(startEdit(feature));
    },
    refresh: (refusal) => takeAnswer(refusal.current, current.version, refusal.changed_by),
  };
}
