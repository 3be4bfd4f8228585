import { isDeepStrictEqual } from 'node:util';

/** One field of an entity before and after; null where it was, or is, not there. */
export interface FieldDiff {
  readonly field: string;
  readonly old: unknown;
  readonly new: unknown;
}

/** What differs between two states, field by field. A state that is no object counts as one field, `value`. */
export function diffStates(before: unknown, after: unknown): FieldDiff[] {
  const old = fieldsOf(before);
  const now = fieldsOf(after);
  const names = new Set([...Object.keys(old), ...Object.keys(now)]);
  return [...names]
    .map((field) => ({ field, old: old[field] ?? null, new: now[field] ?? null }))
    .filter((each) => !isDeepStrictEqual(each.old, each.new));
}

/** The diff that a pending change carries with it: `{field: {old, new}}`, or whatever else is in the row. */
export function diffOfChanges(changes: unknown): FieldDiff[] {
  return Object.entries(isObject(changes) ? changes : {}).map(([field, change]) => ({
    field,
    old: (isObject(change) ? change['old'] : undefined) ?? null,
    new: (isObject(change) ? change['new'] : undefined) ?? null,
  }));
}

export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function fieldsOf(state: unknown): Record<string, unknown> {
  if (isObject(state)) return state;
  return state === null || state === undefined ? {} : { value: state };
}
