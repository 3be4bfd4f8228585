import { useCallback, useEffect, useMemo } from 'react';
import type { Project } from '../api/types.js';
import type { Messages } from '../i18n/en.js';
import { useScope } from '../shell/scope.js';
import { useParameters } from '../shell/use-parameters.js';
import type { ListView, SortField, StateFilter } from './feature-list.js';

const sortFields: readonly SortField[] = ['name', 'state', 'value', 'changed'];
const stateFilters: readonly StateFilter[] = ['all', 'on', 'off', 'pending'];

/** The columns that can be hidden, in their order. */
export const columns = ['value', 'description', 'kind', 'tags', 'changed'] as const;
export type Column = (typeof columns)[number];

/** The title of a column that can be hidden. */
export function nameOfColumn(column: Column, { features, fields }: Messages): string {
  if (column === 'changed') return features.lastChange;
  return column === 'value' || column === 'tags' ? features[column] : fields[column];
}

/** What stands in the chosen columns, with that of the environments after the value, which it is compared with. */
export function inColumns<Part>(
  chosen: readonly Column[],
  part: (column: Column) => Part,
  environments: () => readonly Part[],
): Part[] {
  const valueCount = chosen[0] === 'value' ? 1 : 0;
  return [...chosen.slice(0, valueCount).map(part), ...environments(), ...chosen.slice(valueCount).map(part)];
}

/** The columns that the user has chosen. */
interface ChosenColumns {
  readonly columns: readonly Column[];
  /** The keys of the environments that have a column. */
  readonly environments: readonly string[];
}

export type View = ListView & ChosenColumns;

const defaultColumns: ChosenColumns = { columns: ['value', 'changed'], environments: [] };
const storageKey = 'flagcast.columns';

/** The view of the table, stored in the address so that links keep it. The chosen columns are also those of the next visit. */
export function useListView(): readonly [View, (change: Partial<View>) => void] {
  const { project } = useScope();
  const [parameters, setParameters] = useParameters();
  const view = useMemo(() => readView(parameters, project), [parameters, project]);
  const address = writeView(view);
  // The address gets the remembered columns, and loses what names an environment that is gone.
  useEffect(() => setParameters(address), [setParameters, address]);
  const change = useCallback(
    (changes: Partial<View>): void => {
      const next = { ...view, ...changes };
      setParameters(writeView(next));
      if (changes.columns !== undefined || changes.environments !== undefined)
        localStorage.setItem(storageKey, writeColumns(next).toString());
    },
    [view, setParameters],
  );
  return [view, change];
}

function readView(parameters: URLSearchParams, { environments }: Project): View {
  const remembered = new URLSearchParams(localStorage.getItem(storageKey) ?? '');
  const chosen = readColumns(parameters) ?? readColumns(remembered) ?? defaultColumns;
  return {
    query: parameters.get('q') ?? '',
    state: stateFilters.find((state) => state === parameters.get('state')) ?? 'all',
    tags: parameters.getAll('tag'),
    differs: parameters.has('differs') && environments.length > 1,
    sort: sortFields.find((sort) => sort === parameters.get('sort')) ?? 'name',
    descending: parameters.get('order') === 'down',
    columns: chosen.columns,
    environments: chosen.environments.filter((each) => environments.some(({ key }) => key === each)),
  };
}

function writeView(view: View): string {
  const { query, state, tags, differs, sort, descending } = view;
  const parameters = new URLSearchParams();
  if (query !== '') parameters.set('q', query);
  if (state !== 'all') parameters.set('state', state);
  for (const tag of tags) parameters.append('tag', tag);
  if (differs) parameters.set('differs', '1');
  if (sort !== 'name') parameters.set('sort', sort);
  if (descending) parameters.set('order', 'down');
  const chosen = writeColumns(view);
  if (chosen.toString() !== writeColumns(defaultColumns).toString())
    for (const [name, value] of chosen) parameters.append(name, value);
  return parameters.toString();
}

/** Null if the address does not choose columns. */
function readColumns(parameters: URLSearchParams): ChosenColumns | null {
  const chosen = parameters.get('columns')?.split('.');
  const environments = parameters.getAll('env');
  if (chosen !== undefined) return { columns: columns.filter((each) => chosen.includes(each)), environments };
  return environments.length === 0 ? null : { ...defaultColumns, environments };
}

function writeColumns({ columns: chosen, environments }: ChosenColumns): URLSearchParams {
  const parameters = new URLSearchParams({
    columns: columns.filter((each) => chosen.includes(each)).join('.'),
  });
  for (const key of environments) parameters.append('env', key);
  return parameters;
}
