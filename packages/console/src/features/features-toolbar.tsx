import { CloseButton, Group, Kbd, SegmentedControl, TextInput } from '@mantine/core';
import { memo } from 'react';
import { SearchIcon } from '../shell/icons.js';
import { useI18n } from '../i18n/i18n.js';
import type { StateFilter } from './feature-list.js';
import { ListMenus, type ListMenusProps } from './list-menus.js';

/** The search, the filters and the menus. They render again when the view changes, not with each event. */
export const FeaturesToolbar = memo(function FeaturesToolbar(props: ListMenusProps) {
  const { view, onChange } = props;
  const { t } = useI18n();
  const states: { value: StateFilter; label: string }[] = [
    { value: 'all', label: t.features.all },
    { value: 'on', label: t.features.on },
    { value: 'off', label: t.features.off },
    { value: 'pending', label: t.features.pending },
  ];
  return (
    <Group gap="sm" className="fc-toolbar">
      <TextInput
        className="fc-search"
        type="search"
        aria-label={t.features.search}
        placeholder={t.features.search}
        leftSection={<SearchIcon size={16} />}
        rightSection={
          view.query === '' ? (
            <Kbd size="xs" aria-hidden="true" visibleFrom="sm">
              /
            </Kbd>
          ) : (
            <CloseButton
              size="sm"
              aria-label={t.features.clearSearch}
              onClick={() => onChange({ query: '' })}
            />
          )
        }
        data-search
        value={view.query}
        onChange={(event) => onChange({ query: event.currentTarget.value })}
        onKeyDown={(event) => {
          if (event.key === 'Escape') {
            onChange({ query: '' });
            event.currentTarget.blur();
          }
          if (event.key === 'ArrowDown') document.querySelector<HTMLElement>('[data-row-link]')?.focus();
        }}
      />
      <SegmentedControl
        size="xs"
        className="fc-states"
        aria-label={t.features.filter}
        data={states}
        value={view.state}
        onChange={(state) => onChange({ state: state })}
      />
      <ListMenus {...props} />
    </Group>
  );
});
