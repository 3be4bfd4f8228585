import { Button, Group } from '@mantine/core';
import { useI18n } from '../i18n/i18n.js';
import { ColumnsIcon, FilterIcon } from '../shell/icons.js';
import { lazyPart } from '../shell/lazy-part.js';
import { lazyRoutes } from '../shell/lazy-routes.js';
import { PopupButton } from '../shell/popup-button.js';
import type { View } from './use-list-view.js';

const FilterMenu = lazyPart(lazyRoutes.filterMenu);
const ColumnsMenu = lazyPart(lazyRoutes.columnsMenu);

export interface ListMenusProps {
  readonly view: View;
  readonly onChange: (change: Partial<View>) => void;
  readonly compact: boolean;
  readonly onCompact: (compact: boolean) => void;
}

/** The buttons for more filters, and for the columns with the height of the rows. */
export function ListMenus(props: ListMenusProps) {
  const { t } = useI18n();
  const { view } = props;
  const filters = view.tags.length + Number(view.differs);
  return (
    <Group gap={6} wrap="nowrap" className="fc-shrink">
      <PopupButton popup="menu" render={(close) => <FilterMenu {...props} onClose={close} />}>
        {(button) => (
          <Button
            variant={filters === 0 ? 'default' : 'light'}
            size="xs"
            className="fc-compact"
            leftSection={<FilterIcon size={16} />}
            {...button}
          >
            {filters === 0 ? t.features.filters : t.features.filtersOn(filters)}
          </Button>
        )}
      </PopupButton>
      <PopupButton popup="menu" render={(close) => <ColumnsMenu {...props} onClose={close} />}>
        {(button) => (
          <Button
            variant="default"
            size="xs"
            className="fc-compact"
            leftSection={<ColumnsIcon size={16} />}
            {...button}
          >
            {t.features.columns}
          </Button>
        )}
      </PopupButton>
    </Group>
  );
}
