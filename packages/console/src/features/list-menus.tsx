import type { FeatureState } from '@flagcast/client';
import { Button, Menu } from '@mantine/core';
import { useMemo } from 'react';
import type { Messages } from '../i18n/en.js';
import { useI18n } from '../i18n/i18n.js';
import { visible } from '../i18n/visible.js';
import { EnvironmentKey } from '../shell/environment-name.js';
import { ColumnsIcon, FilterIcon } from '../shell/icons.js';
import { useScope } from '../shell/scope.js';
import { tagsOf } from './feature-list.js';
import { type Column, columns, type View } from './use-list-view.js';

interface ListMenusProps {
  readonly view: View;
  readonly onChange: (change: Partial<View>) => void;
  readonly features: ReadonlyMap<string, FeatureState>;
  readonly compact: boolean;
  readonly onCompact: (compact: boolean) => void;
}

const toggle = <Item,>(items: readonly Item[], item: Item): readonly Item[] =>
  items.includes(item) ? items.filter((each) => each !== item) : [...items, item];

/** The title of a column that can be hidden. */
export function nameOfColumn(column: Column, { features, fields }: Messages): string {
  if (column === 'changed') return features.lastChange;
  return column === 'value' || column === 'tags' ? features[column] : fields[column];
}

/** The names of the tags of all flags, by slug. */
function namesOfTags(features: ReadonlyMap<string, FeatureState>): ReadonlyMap<string, string> {
  const tags = [...features.values()].flatMap(tagsOf);
  return new Map(tags.map(({ slug, name }) => [slug, name ?? slug]));
}

/** More filters, and the columns with the height of the rows. */
export function ListMenus({ view, onChange, features, compact, onCompact }: ListMenusProps) {
  const { t } = useI18n();
  const { project, environment } = useScope();
  const isUseful = (column: Column): boolean =>
    column !== 'tags' || slugs.length > 0 || view.columns.includes(column);
  const filters = view.tags.length + Number(view.differs);
  const tags = useMemo(() => namesOfTags(features), [features]);
  // A tag that no flag has any more can still be removed from the filter.
  const slugs = [...new Set([...tags.keys(), ...view.tags])].toSorted();
  const others = project.environments.filter((each) => each !== environment);
  return (
    <Button.Group className="fc-shrink">
      <Menu position="bottom-end" width={260} closeOnItemClick={false}>
        <Menu.Target>
          <Button
            variant={filters === 0 ? 'default' : 'light'}
            size="xs"
            className="fc-compact"
            leftSection={<FilterIcon size={16} />}
          >
            {filters === 0 ? t.features.filters : t.features.filtersOn(filters)}
          </Button>
        </Menu.Target>
        <Menu.Dropdown mah="70dvh" className="fc-menu">
          {others.length > 0 && (
            <Menu.CheckboxItem checked={view.differs} onChange={(differs) => onChange({ differs })}>
              {t.features.differs}
            </Menu.CheckboxItem>
          )}
          {slugs.length > 0 && <Menu.Label>{t.features.tags}</Menu.Label>}
          {slugs.map((slug) => (
            <Menu.CheckboxItem
              key={slug}
              checked={view.tags.includes(slug)}
              onChange={() => onChange({ tags: toggle(view.tags, slug) })}
            >
              {visible(tags.get(slug) ?? slug)}
            </Menu.CheckboxItem>
          ))}
        </Menu.Dropdown>
      </Menu>
      <Menu position="bottom-end" width={240} closeOnItemClick={false}>
        <Menu.Target>
          <Button variant="default" size="xs" className="fc-compact" leftSection={<ColumnsIcon size={16} />}>
            {t.features.columns}
          </Button>
        </Menu.Target>
        <Menu.Dropdown mah="70dvh" className="fc-menu">
          {columns.filter(isUseful).map((column) => (
            <Menu.CheckboxItem
              key={column}
              checked={view.columns.includes(column)}
              onChange={() =>
                onChange({ columns: columns.filter((each) => toggle(view.columns, column).includes(each)) })
              }
            >
              {nameOfColumn(column, t)}
            </Menu.CheckboxItem>
          ))}
          {others.length > 0 && <Menu.Label>{t.features.otherEnvironments}</Menu.Label>}
          {others.map((each) => (
            <Menu.CheckboxItem
              key={each.id}
              checked={view.environments.includes(each.key)}
              onChange={() => onChange({ environments: toggle(view.environments, each.key) })}
            >
              <EnvironmentKey environment={each} />
            </Menu.CheckboxItem>
          ))}
          <Menu.Divider />
          <Menu.CheckboxItem checked={compact} onChange={onCompact} visibleFrom="sm">
            {t.features.compact}
          </Menu.CheckboxItem>
        </Menu.Dropdown>
      </Menu>
    </Button.Group>
  );
}
