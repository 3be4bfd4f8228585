import { shownJson } from 'flagcast/support';

/** How many bytes a value may have that is shown, as it is stored (mostly compressed) and as text. */
const maxStoredBytes = 16_384;
const maxTextBytes = 65_536;

/** SQL for whether a column of JSON is too large to be shown. One that is stored in many bytes is not read at all. */
export const isTooLarge = (column: string): string =>
  `coalesce(CASE WHEN pg_column_size(${column}) > ${maxStoredBytes} THEN true
    ELSE octet_length(${column}::text) > ${maxTextBytes} END, false)`;

/** SQL for the text that replaces a value that is too large. */
export const tooLarge = `to_jsonb('(too large to be shown: look it up in the database)'::text)`;

/** SQL for a row that is jsonb already, each column as `shownJson` has it. */
export const shownRow = (row: string): string =>
  `(SELECT jsonb_object_agg(shown.key, ${shownJson('shown.value')}) FROM jsonb_each(${row}) AS shown)`;

/** A state that is no object counts as one field, `value`. */
const fieldsOf = (state: string): string =>
  `jsonb_each(CASE WHEN jsonb_typeof(${state}) = 'object' THEN ${state}
    WHEN jsonb_typeof(${state}) <> 'null' THEN jsonb_build_object('value', ${state}) ELSE '{}' END) WITH ORDINALITY`;

/** SQL for the differences of two jsonb states, as a JSON list of `{field, old, new}`; a missing value is null. */
export const stateDiff = (before: string, after: string): string => `(
  SELECT coalesce(json_agg(json_build_object(
    'field', key, 'old', coalesce(old.value, 'null'), 'new', coalesce(new.value, 'null')
  ) ORDER BY old.ordinality, new.ordinality), '[]')
  FROM ${fieldsOf(before)} AS old FULL JOIN ${fieldsOf(after)} AS new USING (key)
  WHERE coalesce(old.value, 'null') <> coalesce(new.value, 'null'))`;
