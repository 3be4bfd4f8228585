import { Menu } from '@mantine/core';
import type { FeatureState } from '@flagcast/client';
import { useFeatures } from '@flagcast/client/react';
import { useMemo } from 'react';
import { useI18n } from '../i18n/i18n.js';
import { visible } from '../i18n/visible.js';
import { EnvironmentKey } from '../shell/environment-name.js';
import { MenuPopup } from '../shell/popup.js';
import { useScope } from '../shell/scope.js';
import { tagsOf } from './feature-list.js';
import type { ToolbarProps } from './features-toolbar.js';
import { type Column, columns, nameOfColumn } from './use-list-view.js';

type MenuProps = ToolbarProps & { readonly onClose: () => void };

const toggle = <Item,>(items: readonly Item[], item: Item): readonly Item[] =>
  items.includes(item) ? items.filter((each) => each !== item) : [...items, item];

/** The names of the tags of all flags, by slug. */
function namesOfTags(features: ReadonlyMap<string, FeatureState>): ReadonlyMap<string, string> {
  const tags = [...features.values()].flatMap(tagsOf);
  return new Map(tags.map(({ slug, name }) => [slug, name ?? slug]));
}

/** The tags of all flags, and the other environments. */
function useChoices({ view }: MenuProps) {
  const features = useFeatures();
  const { project, environment } = useScope();
  const tags = useMemo(() => namesOfTags(features), [features]);
  return {
    tags,
    // A tag that no flag has any more can still be removed from the filter.
    slugs: [...new Set([...tags.keys(), ...view.tags])].toSorted(),
    others: project.environments.filter((each) => each !== environment),
  };
}

/** More filters. */
export function FilterMenu(props: MenuProps) {
  const { view, onChange, onClose } = props;
  const { t } = useI18n();
  const { tags, slugs, others } = useChoices(props);
  return (
    <MenuPopup position="bottom-end" width={260} closeOnItemClick={false} onClose={onClose}>
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
    </MenuPopup>
  );
}

/** The columns, and the height of the rows. */
export function ColumnsMenu(props: MenuProps) {
  const { view, onChange, compact, onCompact, onClose } = props;
  const { t } = useI18n();
  const { slugs, others } = useChoices(props);
  const isUseful = (column: Column): boolean =>
    column !== 'tags' || slugs.length > 0 || view.columns.includes(column);
  return (
    <MenuPopup position="bottom-end" width={240} closeOnItemClick={false} onClose={onClose}>
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
    </MenuPopup>
  );
}
