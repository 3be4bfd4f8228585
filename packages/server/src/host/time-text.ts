const rfc3339 = (expression: string, fraction: string): string =>
  `to_char((${expression}) AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS${fraction}"Z"')`;

/**
 * SQL that writes a timestamptz of the years 1 to 9999 as RFC 3339 in UTC with microseconds, whatever the session's
 * time zone and date style are.
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
