/** How a text is read: as it is, or `escapedText`. */
export type TextReader = (text: string) => string;
export const plainText: TextReader = (text) => `${text}::text`;

/**
 * In a database with SQL_ASCII, or an encoding with gaps, a text can hold bytes that have no equivalent in UTF-8, and
 * a statement that returns it fails. This escapes the bytes of texts that are not ASCII.
 */
export const escapedText: TextReader = (text) =>
  `CASE WHEN octet_length(${text}::text) > 0 AND ${text}::text ~ '[^\x01-\x7f]'
    THEN encode(convert_to(${text}::text, 'SQL_ASCII'), 'escape') ELSE ${text}::text END`;

const rfc3339 = (expression: string, fraction: string): string =>
  `to_char((${expression}) AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS${fraction}"Z"')`;

/**
 * SQL that writes a timestamptz of the years 1 to 9999 as RFC 3339 in UTC with microseconds. The time zone and the date
 * style of the session do not matter.
 */
export const isoUtcInRange = (expression: string): string => rfc3339(expression, '.US');

/** The same for any timestamptz: outside of these years the text is no RFC 3339 (`infinity`, `0044-03-15T12:00:00.000000Z BC`). */
export const isoUtc = (expression: string): string => anyYear(expression, '.US');

/** `isoUtc` without the fraction of the second. */
export const isoUtcSeconds = (expression: string): string => anyYear(expression, '');

/** to_char returns null for infinity, and leaves out the era. */
function anyYear(expression: string, fraction: string): string {
  return `CASE WHEN isfinite(${expression})
    THEN ${rfc3339(expression, fraction)} || CASE WHEN ${expression} < '0001-01-01 00:00:00+00' THEN ' BC' ELSE '' END
    ELSE (${expression})::text END`;
}

/** A client compares and writes JSON with a call for each level, and its stack has an end. */
const maxLevels = 1_000;

/** Replaces JSON with more levels. */
const tooDeep = `(nested in more than ${maxLevels} levels: look it up in the database)`;

/** SQL for whether a jsonb value has more than 1,000 levels, which PostgreSQL stores. */
export const isTooDeep = (value: string): string => `${value} @? 'strict $.**{${maxLevels + 1}}'`;

/** SQL for a jsonb value as answers show it: one that is nested too deeply is replaced by a text. */
export const shownJson = (value: string): string =>
  `CASE WHEN ${isTooDeep(value)} THEN to_jsonb('${tooDeep}'::text) ELSE ${value} END`;

/** SQL for one entity in the jsonb `change` of a request; null where it does not name the entity. */
export const requestedEntity = (change: string, entity: string, entityId: string): string =>
  `jsonb_path_query_first(${change}, '$.entities[*] ? (@.entity == $entity && @.entity_id == $id)',
    jsonb_build_object('entity', ${entity}, 'id', ${entityId}), true)`;

const requestedFields = (requested: string): string =>
  `jsonb_each(CASE jsonb_typeof(${requested} -> 'changes') WHEN 'object' THEN ${requested} -> 'changes' ELSE '{}' END) AS field`;

const requestedField = `'field', field.key, 'old', coalesce(field.value -> 'old', 'null'), 'new', coalesce(field.value -> 'new', 'null')`;

/** SQL for the fields that a `requestedEntity` changes, as `stateDiff` writes them. */
export const requestedDiff = (requested: string): string => `(
  SELECT coalesce(json_agg(json_build_object(${requestedField})), '[]')
  FROM ${requestedFields(requested)})`;

/** The same with the `current` value of each field, of a jsonb object; without it where that is null. */
export const requestedDiffWithCurrent = (requested: string, current: string): string => `(
  SELECT coalesce(json_agg(CASE WHEN ${current} IS NULL THEN json_build_object(${requestedField})
    ELSE json_build_object(${requestedField}, 'current', coalesce(${current} -> field.key, 'null')) END), '[]')
  FROM ${requestedFields(requested)})`;

/** The same, each value as JSON text: JSON.parse would round numbers that a double cannot hold. */
export const requestedDiffTexts = (requested: string): string => `(
  SELECT coalesce(json_agg(json_build_object(
    'field', field.key, 'old', coalesce(field.value -> 'old', 'null')::text, 'new', coalesce(field.value -> 'new', 'null')::text
  )), '[]')
  FROM ${requestedFields(requested)})`;
