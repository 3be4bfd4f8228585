import type { FeatureState } from '@flagcast/client';
import { countCharacters } from '../i18n/visible.js';
import type { FeatureFields } from '../api/types.js';

export type FieldName = keyof FeatureFields;

const fieldNames: readonly FieldName[] = ['name', 'description', 'enabled', 'default_value', 'rollout_key'];

/** The server's limits, in characters. */
export const maxLengths = { name: 50, description: 300, default_value: 128, rollout_key: 1_000 };

export type TextField = keyof typeof maxLengths;

/** Whether the server takes these changes. Texts of the host that are too long do not matter unless they change. */
export function isValid(changed: Partial<FeatureFields>): boolean {
  const { name = '-' } = changed;
  const fields = Object.keys(maxLengths) as TextField[];
  return (
    name.trim() !== '' && fields.every((field) => countCharacters(changed[field] ?? '') <= maxLengths[field])
  );
}

/** A field that another user has changed since the edit began. */
interface ConcurrentChange {
  readonly field: FieldName;
  readonly before: FeatureFields[FieldName];
  readonly theirs: FeatureFields[FieldName];
  /** Their name; null if unknown. */
  readonly by: string | null;
  /** Both changed it to different values: the user has to choose. */
  readonly conflict: boolean;
}

/** An edit of a flag that others can change meanwhile. */
export interface EditState {
  /** The state that the user's changes are based on. */
  readonly base: FeatureFields;
  readonly mine: FeatureFields;
  /** The version of `base`. */
  readonly version: string;
  /** Changes of others: conflicts to resolve, and updates for information. */
  readonly concurrent: readonly ConcurrentChange[];
  /** The newest change of others that was seen on the screen, to highlight it; null if there was none. */
  readonly arrived: ArrivedChange | null;
}

interface ArrivedChange {
  readonly fields: readonly FieldName[];
  readonly by: string | null;
  readonly version: string;
}

/** An edit without changes. */
export function startEdit(feature: FeatureState): EditState {
  const fields = fieldsOf(feature);
  return { base: fields, mine: fields, version: feature.version, concurrent: [], arrived: null };
}

/** Only the editable fields. */
function fieldsOf({ name, description, enabled, default_value, rollout_key }: FeatureFields): FeatureFields {
  return { name, description, enabled, default_value, rollout_key };
}

/** The fields that the user has changed. */
export function changedFields({ base, mine }: EditState): Partial<FeatureFields> {
  const changed = fieldNames.filter((field) => mine[field] !== base[field]);
  return Object.fromEntries(changed.map((field) => [field, mine[field]]));
}

/** The edit with a value of the user. The value of the others ends a conflict. */
export function setField(edit: EditState, field: FieldName, value: FeatureFields[FieldName]): EditState {
  const agrees = edit.concurrent.some((change) => change.field === field && change.theirs === value);
  const changed = { ...edit, mine: { ...edit.mine, [field]: value } };
  return agrees ? keepMine(changed, field) : changed;
}

/** The edit in which the user has decided for their own value. */
export function keepMine(edit: EditState, field: FieldName): EditState {
  return { ...edit, concurrent: edit.concurrent.filter((change) => change.field !== field) };
}

/** The edit in which the user has decided for the value of the others. */
export function takeTheirs(edit: EditState, field: FieldName): EditState {
  const change = edit.concurrent.find((each) => each.field === field);
  return change === undefined ? edit : setField(edit, field, change.theirs);
}

/**
 * The edit on top of the current state of the flag, last changed by `by`. Untouched fields follow the changes of others;
 * if both changed a field to different values, that is a conflict.
 */
export function followState(edit: EditState, feature: FeatureState, by: string | null): EditState {
  const { base, mine } = edit;
  if (feature.version === edit.version) return edit;
  const theirs = fieldsOf(feature);
  const changedByOthers = fieldNames.filter((field) => theirs[field] !== base[field]);
  const added = changedByOthers
    .filter((field) => theirs[field] !== mine[field])
    .map((field) => ({
      field,
      before: base[field],
      theirs: theirs[field],
      by,
      conflict: mine[field] !== base[field],
    }));
  const untouched = fieldNames.filter((field) => mine[field] === base[field]);
  const touched = untouched.length < fieldNames.length;
  return {
    base: theirs,
    mine: { ...mine, ...Object.fromEntries(untouched.map((field) => [field, theirs[field]])) },
    version: feature.version,
    // Without changes of the user there is nothing to explain: the fields show the current state.
    concurrent: touched
      ? [...edit.concurrent.filter(({ field }) => !changedByOthers.includes(field)), ...added]
      : [],
    arrived:
      added.length > 0
        ? { fields: added.map(({ field }) => field), by, version: feature.version }
        : edit.arrived,
  };
}
