import type { FeatureState, FeatureTag, PendingChange } from '@flagcast/client';
import type { LiveEnvironment } from '../api/all-environments.js';

export type SortField = 'name' | 'state' | 'value' | 'changed';
export type StateFilter = 'all' | 'on' | 'off' | 'pending';

/** Filter and order of the table. */
export interface ListView {
  readonly query: string;
  readonly state: StateFilter;
  /** The flags have all of these tags. */
  readonly tags: readonly string[];
  /** Only flags whose state or value is not the same in all environments. */
  readonly differs: boolean;
  readonly sort: SortField;
  readonly descending: boolean;
}

type Features = ReadonlyMap<string, FeatureState>;

/** What is listed. */
export interface ListedState {
  readonly features: Features;
  readonly pending: ReadonlyMap<string, readonly PendingChange[]>;
  /** The live environments of the project, if the list needs them. */
  readonly environments: readonly LiveEnvironment[];
}

/** `Flag 3` comes before `Flag 29`, and case does not matter. */
const { compare } = new Intl.Collator(undefined, { numeric: true, sensitivity: 'base' });

/** The ids of the matching features, in order. */
export function listFeatures({ features, pending, environments }: ListedState, view: ListView): string[] {
  const { query, state, tags, differs, sort, descending } = view;
  const words = query.toLowerCase().split(/\s+/).filter(Boolean);
  const matches = sortByName(features).filter((feature) => {
    if (state === 'on' && !feature.enabled) return false;
    if (state === 'off' && feature.enabled) return false;
    if (state === 'pending' && !pending.has(feature.id)) return false;
    if (!tags.every((tag) => tagsOf(feature).some(({ slug }) => slug === tag))) return false;
    if (differs && !environments.some((each) => isDifferent(each.state.features.get(feature.id), feature)))
      return false;
    const text = textOf(feature);
    return words.every((word) => text.includes(word));
  });
  const direction = descending ? -1 : 1;
  const order = orders[sort];
  // The sort is stable: flags with the same value stay in the order of their names.
  if (order !== undefined) matches.sort((one, other) => direction * order(one, other));
  else if (descending) matches.reverse();
  return matches.map(({ id }) => id);
}

const noTags: readonly FeatureTag[] = [];

/** Empty if the database has no tags. */
export function tagsOf({ tags }: FeatureState): readonly FeatureTag[] {
  return tags ?? noTags;
}

/** Whether a flag has another state or value in another environment. One that is not loaded is not different. */
export function isDifferent(other: FeatureState | undefined, feature: FeatureState): boolean {
  return (
    other !== undefined &&
    (other.enabled !== feature.enabled || other.default_value !== feature.default_value)
  );
}

const orders: Readonly<Record<SortField, ((one: FeatureState, other: FeatureState) => number) | undefined>> =
  {
    name: undefined,
    state: (one, other) => Number(other.enabled) - Number(one.enabled),
    value: (one, other) => compare(one.default_value, other.default_value),
    changed: (one, other) =>
      one.updated_at === other.updated_at ? 0 : one.updated_at < other.updated_at ? -1 : 1,
  };

/** The flags of the last list, in order. Names seldom change, and it is fast to sort what is almost in order. */
let lastOrder: readonly FeatureState[] = [];

function sortByName(features: Features): FeatureState[] {
  const known = lastOrder.flatMap(({ id }) => features.get(id) ?? []);
  const isSorted =
    known.length === features.size && known.every(({ name }, index) => name === lastOrder[index]?.name);
  if (!isSorted) {
    const ids = new Set(known.map(({ id }) => id));
    known.push(...[...features.values()].filter(({ id }) => !ids.has(id)));
    known.sort((one, other) => compare(one.name, other.name) || compare(one.key, other.key));
  }
  lastOrder = known;
  return known;
}

const texts = new WeakMap<FeatureState, string>();

/** What the search looks in. A state is never modified, so its text is written once. */
function textOf(feature: FeatureState): string {
  const known = texts.get(feature);
  if (known !== undefined) return known;
  const { name, key, description } = feature;
  const tags = tagsOf(feature).flatMap((tag) => [tag.slug, tag.name]);
  const text = [name, key, description, ...tags].join(' ').toLowerCase();
  texts.set(feature, text);
  return text;
}
