import type { FeatureState, PendingChange } from '@flagcast/client';
import { UnstyledButton, VisuallyHidden } from '@mantine/core';
import { useMediaQuery } from '@mantine/hooks';
import { useVirtualizer } from '@tanstack/react-virtual';
import { type KeyboardEvent, useRef } from 'react';
import { useLiveChannel } from '../api/live.js';
import { SortIcon } from '../shell/icons.js';
import { useI18n } from '../i18n/i18n.js';
import type { ListView, SortField } from './feature-list.js';
import { FeatureRow } from './feature-row.js';
import { useRecordedChanges } from './recorded-changes.js';

interface FeaturesTableProps {
  readonly ids: readonly string[];
  readonly features: ReadonlyMap<string, FeatureState>;
  readonly pending: ReadonlyMap<string, readonly PendingChange[]>;
  /** The features at the time of sorting: a flag can be deleted meanwhile. */
  readonly sortedFeatures: ReadonlyMap<string, FeatureState>;
  readonly view: ListView;
  readonly onSort: (change: Partial<ListView>) => void;
  /** Called when the mouse enters or leaves the rows. */
  readonly onHover: (hovered: boolean) => void;
}

const rowHeight = 57;
const cardHeight = 84;
const headHeight = 40;
const overscanRows = 8;

/** A virtualized table: only visible rows are in the DOM. On phones each row is a card. */
export function FeaturesTable(props: FeaturesTableProps) {
  const { ids, features, pending, sortedFeatures, view, onSort, onHover } = props;
  const { t } = useI18n();
  const { lastChanges } = useLiveChannel();
  const recorded = useRecordedChanges();
  const cards = useMediaQuery('(max-width: 47.99em)');
  const above = cards ? 0 : headHeight;
  const scroller = useRef<HTMLDivElement>(null);
  const virtualizer = useVirtualizer({
    count: ids.length,
    getScrollElement: () => scroller.current,
    estimateSize: () => (cards ? cardHeight : rowHeight),
    overscan: overscanRows,
    scrollMargin: above,
    // The sticky head covers this part.
    scrollPaddingStart: above,
    getItemKey: (index) => ids[index] ?? index,
  });

  const moveFocus = (event: KeyboardEvent<HTMLDivElement>): void => {
    const step = event.key === 'ArrowDown' ? 1 : event.key === 'ArrowUp' ? -1 : 0;
    const row = event.target instanceof Element ? event.target.closest('[data-index]') : null;
    if (step === 0 || row === null) return;
    event.preventDefault();
    const next = Number(row.getAttribute('data-index')) + step;
    if (next < 0 || next >= ids.length) return;
    virtualizer.scrollToIndex(next);
    requestAnimationFrame(() => {
      scroller.current?.querySelector<HTMLElement>(`[data-index="${next}"] [data-row-link]`)?.focus();
    });
  };
  const heading = (field: SortField, label: string) => (
    <ColumnHeading field={field} label={label} view={view} onSort={onSort} />
  );

  return (
    <div className="fc-table" role="table" aria-label={t.shell.features} aria-rowcount={ids.length + 1}>
      <div ref={scroller} className="fc-rows" role="presentation">
        <div className="fc-row fc-head" role="row" aria-rowindex={1}>
          {heading('name', t.features.flag)}
          {heading('state', t.features.state)}
          {heading('value', t.features.value)}
          <span role="columnheader">{t.features.pendingColumn}</span>
          {heading('changed', t.features.lastChange)}
        </div>
        <div
          role="rowgroup"
          className="fc-rows-all"
          style={{ height: virtualizer.getTotalSize() }}
          onKeyDown={moveFocus}
          onPointerEnter={(event) => onHover(event.pointerType === 'mouse')}
          onPointerLeave={() => onHover(false)}
        >
          {virtualizer.getVirtualItems().map(({ index, start, size }) => {
            const id = ids[index] ?? '';
            const feature = features.get(id) ?? sortedFeatures.get(id);
            if (feature === undefined) return null;
            return (
              <FeatureRow
                key={id}
                feature={feature}
                gone={!features.has(id)}
                pending={pending.get(id)}
                change={lastChanges.made(id)}
                newest={lastChanges.newest(id)}
                recorded={recorded.get(id)}
                index={index}
                top={start - above}
                height={size}
              />
            );
          })}
        </div>
      </div>
    </div>
  );
}

interface ColumnHeadingProps {
  readonly field: SortField;
  readonly label: string;
  readonly view: ListView;
  readonly onSort: (change: Partial<ListView>) => void;
}

function ColumnHeading({ field, label, view, onSort }: ColumnHeadingProps) {
  const { t } = useI18n();
  const active = view.sort === field;
  // Changes sort newest first.
  const descending = active ? !view.descending : field === 'changed';
  return (
    <span
      role="columnheader"
      aria-sort={active ? (view.descending ? 'descending' : 'ascending') : 'none'}
      data-column={field}
    >
      <UnstyledButton
        className="fc-sort"
        data-active={active || undefined}
        onClick={() => onSort({ sort: field, descending })}
      >
        {label}
        {active ? <span aria-hidden="true">{view.descending ? '↓' : '↑'}</span> : <SortIcon size={14} />}
        <VisuallyHidden>{t.features.sort}</VisuallyHidden>
      </UnstyledButton>
    </span>
  );
}
