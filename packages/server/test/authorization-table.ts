/** The response that a user gets at a route. */
export interface Cell {
  readonly route: string;
  readonly caller: string;
  readonly expected: string;
}

/**
 * The cells of the document's table with these columns after `route`. A row may name several routes, separated by `<br>`,
 * or `all other routes`; a column several callers, separated by commas.
 */
export function cellsOf(
  document: string,
  { columns, routes }: { readonly columns: readonly string[]; readonly routes: readonly string[] },
): Cell[] {
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
  const body = rows.slice(start + 2, end).map(([names = '', ...answers]) => {
    if (answers.length !== columns.length) throw new Error(`the row ${names} has ${answers.length} answers`);
    return { named: names.split('<br>'), answers };
  });
  const listed = new Set(body.flatMap(({ named }) => named));
  const others = routes.filter((route) => !listed.has(route));
  return body.flatMap(({ named, answers }) =>
    named
      .flatMap((name) => (name === 'all other routes' ? others : [name]))
      .flatMap((route) =>
        columns.flatMap((callers, at) =>
          callers.split(', ').map((caller) => ({ route, caller, expected: answers[at] ?? '' })),
        ),
      ),
  );
}
