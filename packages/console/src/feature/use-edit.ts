import type { FeatureState } from '@flagcast/client';
import { useEffect, useState } from 'react';
import type { FeatureFields } from '../api/types.js';
import { useDraft } from '../features/use-draft.js';
import { useScope } from '../shell/scope.js';
import {
  changedFields,
  type ConcurrentChange,
  type EditState,
  type FieldName,
  followLive,
  followResponse,
  keepMine,
  restoreEdit,
  setField,
  startAfterSave,
  startEdit,
  takeTheirs,
} from './edit-state.js';

export interface Edit extends Pick<EditState, 'mine' | 'version' | 'arrived'> {
  /** The fields that saving changes. */
  readonly changed: Partial<FeatureFields>;
  /** There are such fields. */
  readonly isDirty: boolean;
  readonly concurrent: readonly ConcurrentChange[];
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
  readonly refresh: (feature: FeatureState, by: string | null) => void;
}

/** An edit of a flag that others can change meanwhile. It is kept in this tab until it is saved or discarded. `by` is the author of the last change. */
export function useEdit(live: FeatureState, by: string | null): Edit {
  const { environment } = useScope();
  const draft = useDraft<EditState>(`edit ${live.id} ${environment.id}`);
  // The draft follows what has changed since.
  const [edit, setEdit] = useState<EditState>(() => restoreEdit(draft.read()) ?? startEdit(live));
  // During rendering, not in an effect: the screen never shows an outdated form.
  const current = followLive(edit, live, by);
  if (current !== edit) setEdit(current);
  const { mine, version, concurrent, arrived } = current;
  const changed = changedFields(current);
  const isDirty = Object.keys(changed).length > 0;
  useEffect(() => {
    draft.write(isDirty ? current : null);
  }, [draft, current, isDirty]);
  return {
    mine,
    version,
    changed,
    isDirty,
    concurrent,
    arrived,
    blocked: concurrent.some(({ conflict }) => conflict),
    set: (field, value) => setEdit((before) => setField(before, field, value)),
    keepMine: (field) => setEdit((before) => keepMine(before, field)),
    takeTheirs: (field) => setEdit((before) => takeTheirs(before, field)),
    reset: () => setEdit((before) => startEdit(before.seen, before.isAhead)),
    saved: (feature) => setEdit((before) => startAfterSave(before, feature)),
    refresh: (feature, changedBy) => setEdit((before) => followResponse(before, feature, changedBy)),
  };
}
