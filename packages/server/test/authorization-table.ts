/** The response that a user gets at a route. */
export interface Cell {
  readonly route: string;
  readonly caller: string;
  readonly expected: string;
}

/** The cells of the document's table whose columns, after `route`, are these. */
export function cellsOf(document: string, columns: readonly string[]): Cell[] {
  const head = ['route', ...columns];
  const rows = document.split('\n').map((line) =>
    line
      .split('|')
      .slice(1, -1)
      .map((cell) => cell.trim()),
  );
  const start = rows.findIndex((cells) => cells.join('|') === head.join('|'));
  if (start === -1) throw new Error(`docs/authorization.md has no table with the columns ${head.join(', ')}`);
  const end = rows.findIndex((cells, index) => index > start && cells.length === 0);
  return rows.slice(start + 2, end).flatMap(([route = '', ...answers]) => {
    if (answers.length !== columns.length) throw new Error(`the row ${route} has ${answers.length} answers`);
    return columns.map((caller, at) => ({ route, caller, expected: answers[at] ?? '' }));
  });
}
