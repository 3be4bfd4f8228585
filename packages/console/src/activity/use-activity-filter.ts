import { useDebouncedValue } from '@mantine/hooks';
import { useMemo } from 'react';
import { serverNowMs } from '../api/server-clock.js';
import { toTimeMs } from '../i18n/format.js';
import { useParameters } from '../shell/use-parameters.js';
import type { HistoryFilter } from './timeline.js';

/** A change applies at once. Others that follow it, such as by the next keys, apply after the last one. */
const debounceMs = 300;

/** The lengths of the ranges that end now, in milliseconds. */
export const presets = {
  hour: 3_600_000,
  day: 86_400_000,
  week: 7 * 86_400_000,
  month: 30 * 86_400_000,
} as const;

/** The filter in the address: links and the browser's history keep it. */
const parameters = [
  'projects',
  'entity',
  'action',
  'feature_id',
  'username',
  'since',
  'until',
  'last',
] as const;

type ActivityParameters = { readonly [Name in (typeof parameters)[number]]?: string | undefined };

const timeOf = (text = ''): string | undefined =>
  text.endsWith('Z') && toTimeMs(text) !== null ? text : undefined;

const readParameters = (query: URLSearchParams) =>
  Object.fromEntries(parameters.map((name) => [name, query.get(name) ?? undefined])) as ActivityParameters;

/** As the API takes it: a range that ends now begins at a time. */
function filterOf({ last = '', since, until, projects, username, ...others }: ActivityParameters) {
  const lengthMs = Object.hasOwn(presets, last) ? presets[last as keyof typeof presets] : null;
  const range =
    lengthMs === null
      ? { since: timeOf(since), until: timeOf(until) }
      : { since: new Date(serverNowMs() - lengthMs).toISOString() };
  const name = username?.trim() || undefined;
  return {
    ...others,
    ...range,
    username: name,
    ...(projects === 'all' && { projects }),
  } satisfies HistoryFilter;
}

/** The filter of the activity. What the address cannot mean is ignored. */
export function useActivityFilter() {
  const [query, setQuery] = useParameters();
  const [applied] = useDebouncedValue(query, debounceMs, { leading: true });
  const known = useMemo(() => readParameters(query), [query]);
  return {
    parameters: known,
    filter: useMemo(() => filterOf(readParameters(applied)), [applied]),
    /** Undefined removes a parameter. */
    change: (changes: ActivityParameters): void => {
      const next = Object.entries({ ...known, ...changes }).filter(
        (entry): entry is [string, string] => (entry[1] ?? '') !== '',
      );
      setQuery(new URLSearchParams(next).toString());
    },
  };
}
