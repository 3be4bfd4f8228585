import { useMemo } from 'react';
import { useSearchParams } from 'react-router';
import type { ListView, SortField, StateFilter } from './feature-list.js';

const sortFields: readonly SortField[] = ['name', 'state', 'value', 'changed'];
const stateFilters: readonly StateFilter[] = ['all', 'on', 'off', 'waiting'];

/** The table's view, kept in the address so that a link shows the same. */
export function useListView(): readonly [ListView, (change: Partial<ListView>) => void] {
  const [parameters, setParameters] = useSearchParams();
  const view = useMemo<ListView>(
    () => ({
      query: parameters.get('q') ?? '',
      state: stateFilters.find((state) => state === parameters.get('state')) ?? 'all',
      sort: sortFields.find((sort) => sort === parameters.get('sort')) ?? 'name',
      descending: parameters.get('order') === 'down',
    }),
    [parameters],
  );
  const change = (changes: Partial<ListView>): void => {
    const next = { ...view, ...changes };
    const query = new URLSearchParams();
    if (next.query !== '') query.set('q', next.query);
    if (next.state !== 'all') query.set('state', next.state);
    if (next.sort !== 'name') query.set('sort', next.sort);
    if (next.descending) query.set('order', 'down');
    setParameters(query, { replace: true });
  };
  return [view, change];
}
