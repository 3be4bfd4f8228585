import { describe, expect, it } from 'vitest';
import type { LiveEnvironment } from '../src/api/all-environments.js';
import { type ListView, listFeatures } from '../src/features/feature-list.js';
import { environment, feature } from './fixture/data.js';

const all: ListView = { query: '', state: 'all', tags: [], differs: false, sort: 'name', descending: false };
const tag = (slug: string, name: string | null = null) => ({ slug, name, color: null });

function list(
  features: readonly ReturnType<typeof feature>[],
  view: Partial<ListView> = {},
  elsewhere: readonly ReturnType<typeof feature>[] = [],
): string[] {
  const byId = (states: typeof features) => new Map(states.map((each) => [each.id, each]));
  const other = { environment: environment('prod'), state: { features: byId(elsewhere) } };
  return listFeatures(
    { features: byId(features), pending: new Map(), environments: [other as unknown as LiveEnvironment] },
    { ...all, ...view },
  );
}

const named = (...names: string[]) => names.map((name) => feature(name, { name, key: name }));

describe('the order of the list', () => {
  it('counts: 3 comes before 29, and case does not matter', () => {
    const features = named('Sort 29', 'sort 3', 'Sort 30', 'Émile', 'apple', 'Zebra');
    const expected = ['apple', 'Émile', 'sort 3', 'Sort 29', 'Sort 30', 'Zebra'];
    expect(list(features)).toEqual(expected);
    expect(list(features.toReversed(), { descending: true })).toEqual(expected.toReversed());
  });

  it('follows renamed, new and deleted flags', () => {
    expect(list(named('b', 'c', 'd'))).toEqual(['b', 'c', 'd']);
    const [b, d] = [feature('b', { name: 'z' }), feature('d', { name: 'd' })];
    expect(list([b, d, ...named('a')])).toEqual(['a', 'd', 'b']);
  });

  it('by value counts, too, and keeps equal values in the order of their names', () => {
    const value = (name: string, text: string) => feature(name, { name, default_value: text });
    const features = [value('c', '10'), value('b', '9'), value('a', '10')];
    expect(list(features, { sort: 'value' })).toEqual(['b', 'a', 'c']);
    expect(list(features, { sort: 'value', descending: true })).toEqual(['a', 'c', 'b']);
  });
});

describe('the filters of the list', () => {
  const features = [
    feature('a', { enabled: true, tags: [tag('critical', 'Critical'), tag('web')] }),
    feature('b', { default_value: 'x', tags: [tag('web')] }),
    feature('c', { description: 'Something else' }),
  ];

  it('want all of the chosen tags, and the search finds names of tags', () => {
    expect(list(features, { tags: ['web'] })).toEqual(['a', 'b']);
    expect(list(features, { tags: ['web', 'critical'] })).toEqual(['a']);
    expect(list(features, { query: 'CRITICAL flag' })).toEqual(['a']);
    expect(list(features, { query: 'else' })).toEqual(['c']);
  });

  it('find what differs in another environment in its state or its value', () => {
    const same = feature('c');
    const differs = { differs: true };
    expect(list(features, differs, [feature('a'), feature('b'), same])).toEqual(['a', 'b']);
    expect(list(features, differs, [feature('a', { enabled: true }), same])).toEqual([]);
  });
});
