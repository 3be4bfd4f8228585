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
  /** The features as they were when the rows were put in this order: a row may be gone meanwhile. */
  readonly before: ReadonlyMap<string, FeatureState>;
  readonly view: ListView;
  readonly onSort: (change: Partial<ListView>) => void;
  /** Whether a mouse is over the rows. */
  readonly onPointed: (pointed: boolean) => void;
}

const rowHeight = 57;
const cardHeight = 84;
const headHeight = 40;
const overscanRows = 8;

/** Only the rows in sight are in the page. On phones each row is a card. */
export function FeaturesTable(props: FeaturesTableProps) {
  const { ids, features, pending, before, view, onSort, onPointed } = props;
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
    // The head covers what is right below the edge.
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
          onPointerEnter={(event) => onPointed(event.pointerType === 'mouse')}
          onPointerLeave={() => onPointed(false)}
        >
          {virtualizer.getVirtualItems().map(({ index, start, size }) => {
            const id = ids[index] ?? '';
            const feature = features.get(id) ?? before.get(id);
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
  // The newest change is what people look for first.
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
