import type { FeatureFields } from '../api/types.js';

export type FieldName = keyof FeatureFields;

const fieldNames: readonly FieldName[] = ['name', 'description', 'enabled', 'default_value', 'rollout_key'];

/** A field that somebody else has changed since the edit began. */
export interface ConcurrentChange {
  readonly field: FieldName;
  readonly before: FeatureFields[FieldName];
  readonly mine: FeatureFields[FieldName];
  readonly theirs: FeatureFields[FieldName];
  /** Both have changed it, and not alike: the user has to choose. */
  readonly conflict: boolean;
}

/** The fields of anything that has them. */
export function fieldsOf(feature: FeatureFields): FeatureFields {
  const { name, description, enabled, default_value, rollout_key } = feature;
  return { name, description, enabled, default_value, rollout_key };
}

/** What others have changed from `base` to `theirs`, beside what the user has made of `base`. */
export function concurrentChanges(
  base: FeatureFields,
  mine: FeatureFields,
  theirs: FeatureFields,
): ConcurrentChange[] {
  return (
    fieldNames
      // What both have made alike needs nobody's attention.
      .filter((field) => theirs[field] !== base[field] && theirs[field] !== mine[field])
      .map((field) => ({
        field,
        before: base[field],
        mine: mine[field],
        theirs: theirs[field],
        conflict: mine[field] !== base[field],
      }))
  );
}

/** The user's fields with all that they have not touched as it is now. */
export function rebaseUntouched(
  base: FeatureFields,
  mine: FeatureFields,
  theirs: FeatureFields,
): FeatureFields {
  const untouched = fieldNames.filter((field) => mine[field] === base[field]);
  return { ...mine, ...Object.fromEntries(untouched.map((field) => [field, theirs[field]])) };
}

/** Only what the user has changed. */
export function changedFields(base: FeatureFields, mine: FeatureFields): Partial<FeatureFields> {
  const changed = fieldNames.filter((field) => mine[field] !== base[field]);
  return Object.fromEntries(changed.map((field) => [field, mine[field]]));
}
