import type { FeatureFields } from '../api/types.js';

export type FieldName = keyof FeatureFields;

const fieldNames: readonly FieldName[] = ['name', 'description', 'enabled', 'default_value', 'rollout_key'];

/** A field that another user has changed since the edit began. */
export interface ConcurrentChange {
  readonly field: FieldName;
  readonly before: FeatureFields[FieldName];
  readonly mine: FeatureFields[FieldName];
  readonly theirs: FeatureFields[FieldName];
  /** Both changed it to different values: the user has to choose. */
  readonly conflict: boolean;
}

/** Only the editable fields. */
export function fieldsOf(feature: FeatureFields): FeatureFields {
  const { name, description, enabled, default_value, rollout_key } = feature;
  return { name, description, enabled, default_value, rollout_key };
}

/** The fields in which `theirs` differs from both `base` and `mine`. */
export function concurrentChanges(
  base: FeatureFields,
  mine: FeatureFields,
  theirs: FeatureFields,
): ConcurrentChange[] {
  return fieldNames
    .filter((field) => theirs[field] !== base[field] && theirs[field] !== mine[field])
    .map((field) => ({
      field,
      before: base[field],
      mine: mine[field],
      theirs: theirs[field],
      conflict: mine[field] !== base[field],
    }));
}

/** The user's changes on top of `theirs`. */
export function rebaseUntouched(
  base: FeatureFields,
  mine: FeatureFields,
  theirs: FeatureFields,
): FeatureFields {
  const untouched = fieldNames.filter((field) => mine[field] === base[field]);
  return { ...mine, ...Object.fromEntries(untouched.map((field) => [field, theirs[field]])) };
}

/** The fields that the user has changed. */
export function changedFields(base: FeatureFields, mine: FeatureFields): Partial<FeatureFields> {
  const changed = fieldNames.filter((field) => mine[field] !== base[field]);
  return Object.fromEntries(changed.map((field) => [field, mine[field]]));
}
