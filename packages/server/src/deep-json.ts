/** What compares JSON and writes it calls itself for each level, here and in a client, and the stack has an end. */
export const maxLevels = 1_000;

/** What is shown in place of JSON with more levels. */
export const tooDeep = `(nested in more than ${maxLevels} levels: look it up in the database)`;

/**
 * A value of a jsonb column, fit to be compared and shown: one that is nested in more than 1,000 levels,
 * which PostgreSQL stores, is replaced by a text that says so.
 */
export function shownJson(value: unknown): unknown {
  let level = [value];
  for (let levels = 0; level.length > 0; levels += 1) {
    if (levels > maxLevels) return tooDeep;
    level = level.flatMap((each) =>
      typeof each === 'object' && each !== null ? (Object.values(each) as unknown[]) : [],
    );
  }
  return value;
}

/** The row with each of its values so. */
export function shownRow(row: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(row).map(([column, value]) => [column, shownJson(value)]));
}
