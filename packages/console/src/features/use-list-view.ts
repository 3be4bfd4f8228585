import { useEffect, useRef, useState } from 'react';
import { useLocation, useSearchParams } from 'react-router';
import type { ListView, SortField, StateFilter } from './feature-list.js';

const sortFields: readonly SortField[] = ['name', 'state', 'value', 'changed'];
const stateFilters: readonly StateFilter[] = ['all', 'on', 'off', 'pending'];

/** Delay before the address follows the input, in milliseconds. */
const addressDelayMs = 150;

/** The view of the table, stored in the address so that links keep it. */
export function useListView(): readonly [ListView, (change: Partial<ListView>) => void] {
  const [parameters, setParameters] = useSearchParams();
  const { pathname } = useLocation();
  const [view, setView] = useState(() => readView(parameters));
  const address = parameters.toString();
  /** The address that was last read or written here. Another one comes from a navigation. */
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
      // Does not undo a navigation whose page is still loading.
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
