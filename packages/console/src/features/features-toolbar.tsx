import { Button, CloseButton, Group, Kbd, SegmentedControl, TextInput } from '@mantine/core';
import { memo, type ReactNode } from 'react';
import { ColumnsIcon, FilterIcon, SearchIcon } from '../shell/icons.js';
import { lazyPart } from '../shell/lazy-part.js';
import { lazyRoutes } from '../shell/lazy-routes.js';
import { PopupButton } from '../shell/popup-button.js';
import { useI18n } from '../i18n/i18n.js';
import type { StateFilter } from './feature-list.js';
import type { View } from './use-list-view.js';

const FilterMenu = lazyPart(lazyRoutes.filterMenu);
const ColumnsMenu = lazyPart(lazyRoutes.columnsMenu);

export interface ToolbarProps {
  readonly view: View;
  readonly onChange: (change: Partial<View>) => void;
  readonly compact: boolean;
  readonly onCompact: (compact: boolean) => void;
}

/** The search, the filters and the menus. They render again when the view changes, not with each event. */
export const FeaturesToolbar = memo(function FeaturesToolbar(props: ToolbarProps) {
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

/** The buttons for more filters, and for the columns with the height of the rows. */
function ListMenus(props: ToolbarProps) {
  const { t } = useI18n();
  const { view } = props;
  const filters = view.tags.length + Number(view.differs);
  const menu = (Menu: typeof FilterMenu, icon: ReactNode, label: string, variant = 'default') => (
    <PopupButton popup="menu" render={(close) => <Menu {...props} onClose={close} />}>
      {(button) => (
        <Button variant={variant} size="xs" className="fc-compact" leftSection={icon} {...button}>
          {label}
        </Button>
      )}
    </PopupButton>
  );
  return (
    <Group gap={6} wrap="nowrap" className="fc-shrink">
      {menu(
        FilterMenu,
        <FilterIcon size={16} />,
        filters === 0 ? t.features.filters : t.features.filtersOn(filters),
        filters === 0 ? 'default' : 'light',
      )}
      {menu(ColumnsMenu, <ColumnsIcon size={16} />, t.features.columns)}
    </Group>
  );
}
