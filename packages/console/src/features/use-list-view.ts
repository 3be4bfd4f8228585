import { useEffect, useRef, useState } from 'react';
import { useLocation, useSearchParams } from 'react-router';
import type { ListView, SortField, StateFilter } from './feature-list.js';

const sortFields: readonly SortField[] = ['name', 'state', 'value', 'changed'];
const stateFilters: readonly StateFilter[] = ['all', 'on', 'off', 'pending'];

/** The address follows whoever types at this distance. */
const addressDelayMs = 150;

/** The table's view; the address keeps it, so that a link shows the same. */
export function useListView(): readonly [ListView, (change: Partial<ListView>) => void] {
  const [parameters, setParameters] = useSearchParams();
  const { pathname } = useLocation();
  const [view, setView] = useState(() => readView(parameters));
  const address = parameters.toString();
  /** The address as it was last read or written here: any other one is news. */
  const known = useRef(address);
  useEffect(() => {
    if (address === known.current) return;
    known.current = address;
    setView(readView(new URLSearchParams(address)));
  }, [address]);
  useEffect(() => {
    const next = writeView(view);
    if (next === known.current) return;
    const timer = setTimeout(() => {
      // Whoever has followed a link, whose page is still being loaded, is not to be brought back.
      if (!window.location.pathname.endsWith(pathname)) return;
      known.current = next;
      setParameters(next, { replace: true });
    }, addressDelayMs);
    return () => clearTimeout(timer);
  }, [view, pathname, setParameters]);
  return [view, (change) => setView((before) => ({ ...before, ...change }))];
}

function readView(parameters: URLSearchParams): ListView {
  return {
    query: parameters.get('q') ?? '',
    state: stateFilters.find((state) => state === parameters.get('state')) ?? 'all',
    sort: sortFields.find((sort) => sort === parameters.get('sort')) ?? 'name',
    descending: parameters.get('order') === 'down',
  };
}

function writeView({ query, state, sort, descending }: ListView): string {
  const parameters = new URLSearchParams();
  if (query !== '') parameters.set('q', query);
  if (state !== 'all') parameters.set('state', state);
  if (sort !== 'name') parameters.set('sort', sort);
  if (descending) parameters.set('order', 'down');
  return parameters.toString();
}
