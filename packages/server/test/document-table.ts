export type Row = Readonly<Record<string, string>>;

/** The rows of the one table in a Markdown text whose first columns are these; cells by the names of their columns. */
export function tableOf(text: string, columns: readonly string[]): Row[] {
  const rows = text.split('\n').map((line) =>
    line
      .split('|')
      .slice(1, -1)
      .map((cell) => cell.trim()),
  );
  const starts = rows.flatMap((cells, index) =>
    columns.every((column, at) => cells[at] === column) ? [index] : [],
  );
  const [start] = starts;
  if (start === undefined || starts.length > 1)
    throw new Error(`${starts.length} tables of ${columns.join()}`);
  const end = rows.findIndex((cells, index) => index > start && cells.length === 0);
  return rows
    .slice(start + 2, end)
    .map((cells) => Object.fromEntries((rows[start] ?? []).map((column, at) => [column, cells[at] ?? ''])));
}
