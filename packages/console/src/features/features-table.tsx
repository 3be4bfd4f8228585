import { UnstyledButton, VisuallyHidden } from '@mantine/core';
import { useMediaQuery } from '@mantine/hooks';
import { type CSSProperties, memo } from 'react';
import type { LiveEnvironment } from '../api/all-environments.js';
import { useLiveChannel } from '../api/live.js';
import { EnvironmentKey } from '../shell/environment-name.js';
import { SortIcon } from '../shell/icons.js';
import { useI18n } from '../i18n/i18n.js';
import type { ListedState, ListView, SortField } from './feature-list.js';
import { FeatureRow } from './feature-row.js';
import { useRecordedChanges } from './recorded-changes.js';
import { type Column, inColumns, type View, nameOfColumn } from './use-list-view.js';
import { useRows } from './use-rows.js';

interface FeaturesTableProps {
  readonly ids: readonly string[];
  readonly state: ListedState;
  /** The listed flags that have been deleted since the list was sorted. */
  readonly gone: ListedState['features'];
  readonly view: View;
  readonly compact: boolean;
  /** The environments with a column of their own. */
  readonly others: readonly LiveEnvironment[];
  readonly onChange: (change: Partial<ListView>) => void;
  /** Called when the mouse enters or leaves the rows. */
  readonly onHover: (hovered: boolean) => void;
}

const rowHeight = 57;
const compactRowHeight = 37;
const headHeight = 40;
/** A card has two lines for the flag and its value, and one for each of the other columns. */
const cardHeight = 84;
const cardLineHeight = 26;

/** The least width of a column in pixels, and its part of the rest. */
type Width = readonly [number, number];

const widths: Readonly<Record<Column, Width>> = {
  value: [80, 1],
  description: [160, 2],
  kind: [92, 0.5],
  tags: [110, 1.3],
  changed: [128, 1],
};
const flagWidth: Width = [190, 2.2];
const stateWidth: Width = [64, 0];
const elsewhereWidth: Width = [104, 0.8];
/** The gap of the columns, and the padding of a row, in the style sheet. */
const gapWidth = 16;

/** The style of a table with these columns. It is scrolled if the window is narrower. */
function layOut(view: View, others: number): CSSProperties {
  const all = [
    flagWidth,
    stateWidth,
    ...inColumns(
      view.columns,
      (column) => widths[column],
      () => Array.from({ length: others }, () => elsewhereWidth),
    ),
  ];
  const leastWidth = all.reduce((sum, [least]) => sum + least + gapWidth, gapWidth);
  return {
    '--fc-grid': all.map(([least, part]) => `minmax(${least}px, ${part}fr)`).join(' '),
    '--fc-least-width': `${leastWidth}px`,
  } as CSSProperties;
}

/** A virtualized table: only visible rows are in the DOM. On phones each row is a card. */
export const FeaturesTable = memo(function FeaturesTable(props: FeaturesTableProps) {
  const { ids, state, gone, view, compact, others, onChange, onHover } = props;
  const { t } = useI18n();
  const { lastChanges } = useLiveChannel();
  const recorded = useRecordedChanges();
  const cards = useMediaQuery('(max-width: 47.99em)', undefined, { getInitialValueInEffect: false });
  const lines = others.length + view.columns.filter((each) => each !== 'value' && each !== 'changed').length;
  const above = cards ? 0 : headHeight;
  const { scroller, virtualizer, rowProps } = useRows({
    ids,
    rowHeight: cards ? cardHeight + lines * cardLineHeight : compact ? compactRowHeight : rowHeight,
    headHeight: above,
  });
  return (
    <div
      className="fc-table"
      role="table"
      aria-label={t.shell.features}
      aria-rowcount={ids.length + 1}
      data-compact={compact || undefined}
      style={layOut(view, others.length)}
    >
      <div ref={scroller} className="fc-rows" role="presentation">
        <Head view={view} others={others} onChange={onChange} />
        <div
          role="rowgroup"
          className="fc-rows-all"
          style={{ height: virtualizer.getTotalSize() }}
          {...rowProps}
          onPointerEnter={(event) => onHover(event.pointerType === 'mouse')}
          onPointerLeave={() => onHover(false)}
        >
          {virtualizer.getVirtualItems().map(({ index, start, size }) => {
            const id = ids[index] ?? '';
            const feature = state.features.get(id) ?? gone.get(id);
            if (feature === undefined) return null;
            return (
              <FeatureRow
                key={id}
                feature={feature}
                gone={gone.has(id)}
                pending={state.pending.get(id)}
                change={lastChanges.made(id)}
                newest={lastChanges.newest(id)}
                recorded={recorded.get(id)}
                columns={view.columns}
                others={others.map(({ environment, state: { features, pendingChanges } }) => ({
                  environment,
                  feature: features.get(id),
                  hasPending: pendingChanges.has(id),
                }))}
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
});

function Head({ view, others, onChange }: Pick<FeaturesTableProps, 'view' | 'others' | 'onChange'>) {
  const { t } = useI18n();
  const sortHeading = (field: SortField, label: string) => (
    <SortHeading key={field} field={field} label={label} view={view} onSort={onChange} />
  );
  const heading = (column: Column) =>
    column === 'value' || column === 'changed' ? (
      sortHeading(column, nameOfColumn(column, t))
    ) : (
      <span key={column} role="columnheader">
        {nameOfColumn(column, t)}
      </span>
    );
  return (
    <div className="fc-row fc-head" role="row" aria-rowindex={1}>
      {sortHeading('name', t.features.flag)}
      {sortHeading('state', t.features.state)}
      {inColumns(view.columns, heading, () =>
        others.map(({ environment }) => (
          <span key={environment.id} role="columnheader" title={environment.name} className="fc-truncate">
            <EnvironmentKey environment={environment} />
          </span>
        )),
      )}
    </div>
  );
}

interface SortHeadingProps {
  readonly field: SortField;
  readonly label: string;
  readonly view: ListView;
  readonly onSort: (change: Partial<ListView>) => void;
}

function SortHeading({ field, label, view, onSort }: SortHeadingProps) {
  const { t } = useI18n();
  const active = view.sort === field;
  // Changes sort newest first.
  const descending = active ? !view.descending : field === 'changed';
  return (
    <span role="columnheader" aria-sort={active ? (view.descending ? 'descending' : 'ascending') : 'none'}>
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
