import type { FeatureState, PendingChange } from '@flagcast/client';

export type SortField = 'name' | 'state' | 'value' | 'changed';
export type StateFilter = 'all' | 'on' | 'off' | 'pending';

/** Filter and order of the table. */
export interface ListView {
  readonly query: string;
  readonly state: StateFilter;
  readonly sort: SortField;
  readonly descending: boolean;
}

type Features = ReadonlyMap<string, FeatureState>;

/** The ids of the matching features, in order. Case does not matter. */
export function listFeatures(
  features: Features,
  pending: ReadonlyMap<string, readonly PendingChange[]>,
  { query, state, sort, descending }: ListView,
): string[] {
  const words = query.toLowerCase().split(/\s+/).filter(Boolean);
  const matches: { id: string; by: string; name: string }[] = [];
  for (const feature of features.values()) {
    if (state === 'on' && !feature.enabled) continue;
    if (state === 'off' && feature.enabled) continue;
    if (state === 'pending' && !pending.has(feature.id)) continue;
    const name = feature.name.toLowerCase();
    if (words.length > 0) {
      const text = `${name} ${feature.key.toLowerCase()} ${feature.description?.toLowerCase() ?? ''}`;
      if (!words.every((word) => text.includes(word))) continue;
    }
    matches.push({ id: feature.id, by: sortText(feature, sort, name), name });
  }
  const direction = descending ? -1 : 1;
  matches.sort((one, other) => {
    if (one.by !== other.by) return one.by < other.by ? -direction : direction;
    return one.name < other.name ? -1 : one.name > other.name ? 1 : 0;
  });
  return matches.map(({ id }) => id);
}

function sortText(feature: FeatureState, sort: SortField, name: string): string {
  switch (sort) {
    case 'name':
      return name;
    case 'state':
      return feature.enabled ? '0' : '1';
    case 'value':
      return feature.default_value.toLowerCase();
    case 'changed':
      return feature.updated_at;
  }
}
