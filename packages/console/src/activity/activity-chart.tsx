import 'uplot/dist/uPlot.min.css';
import { Group, Text, useComputedColorScheme, useMantineTheme } from '@mantine/core';
import { useEffect, useMemo, useRef, useState } from 'react';
import UPlot from 'uplot';
import type { Format } from '../i18n/format.js';
import { useI18n } from '../i18n/i18n.js';
import type { Histogram } from './use-histogram.js';

interface ActivityChartProps {
  readonly histogram: Histogram;
  /** Called with a part of the time that the user has selected by dragging. */
  readonly onSelect: (sinceMs: number, untilMs: number) => void;
}

/** A selection of fewer pixels is a click. */
const leastSelectedPx = 5;
const dayMs = 86_400_000;

/** The number of events by time. Dragging selects a range; with the keyboard the fields for the time do. */
export default function ActivityChart({ histogram, onSelect }: ActivityChartProps) {
  const { t, format } = useI18n();
  const colors = usePlotColors();
  const { sinceMs, bucketMs, counts, searched_until: searchedUntil } = histogram;
  const [hovered, setHovered] = useState<{ readonly index: number; readonly left: number } | null>(null);
  const selected = useRef(onSelect);
  useEffect(() => {
    selected.current = onSelect;
  });
  const isLong = bucketMs * counts.length > dayMs;
  const data = useMemo<UPlot.AlignedData>(
    () => [counts.map((_, index) => (sinceMs + index * bucketMs) / 1_000), [...counts]],
    [counts, sinceMs, bucketMs],
  );
  const options = useMemo<Omit<UPlot.Options, 'width'>>(() => {
    /** The bar at a position, with its part. */
    const indexAt = (plot: UPlot, left: number): number =>
      ((plot.posToVal(left, 'x') - (plot.data[0][0] ?? 0)) * 1_000) / bucketMs;
    const timeAt = (plot: UPlot, index: number): number => (plot.data[0][0] ?? 0) * 1_000 + index * bucketMs;
    return {
      ...chartOptions(colors, format, { bucketMs, isLong }),
      hooks: {
        setCursor: [
          (plot) => {
            const { left = -1 } = plot.cursor;
            const index = Math.floor(indexAt(plot, left));
            setHovered(left < 0 ? null : { index, left: left + plot.bbox.left / devicePixelRatio });
          },
        ],
        setSelect: [
          (plot) => {
            const { left, width } = plot.select;
            if (width < leastSelectedPx) return;
            const [first, last] = [Math.floor(indexAt(plot, left)), Math.ceil(indexAt(plot, left + width))];
            selected.current(timeAt(plot, first), timeAt(plot, last));
            plot.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false);
          },
        ],
      },
    };
  }, [colors, format, bucketMs, isLong]);
  const timeOf = isLong ? format.dateTime : format.timeWithSeconds;
  const describe = (count: number, startMs: number, lengthMs: number): string =>
    `${t.activity.events(count)} · ${timeOf(startMs)} – ${timeOf(startMs + lengthMs)}`;
  const total = counts.reduce((sum, count) => sum + count, 0);
  const label = describe(total, sinceMs, bucketMs * counts.length);
  const count = hovered === null ? undefined : counts[hovered.index];
  return (
    <div className="fc-chart">
      <Group justify="space-between" gap="xs" mb={4}>
        <Text size="xs" c="dimmed">
          {label}
          {searchedUntil !== null &&
            ` · ${t.activity.searchedUntil(format.dateTime(Date.parse(searchedUntil)))}`}
        </Text>
        <Text size="xs" c="dimmed" visibleFrom="sm">
          {t.activity.dragHint}
        </Text>
      </Group>
      <Plot options={options} data={data} label={label} />
      {hovered !== null && count !== undefined && (
        <Text size="xs" className="fc-chart-tip" style={{ left: hovered.left }}>
          {describe(count, sinceMs + hovered.index * bucketMs, bucketMs)}
        </Text>
      )}
    </div>
  );
}

function chartOptions(
  colors: ReturnType<typeof usePlotColors>,
  format: Format,
  { bucketMs, isLong }: { readonly bucketMs: number; readonly isLong: boolean },
): Omit<UPlot.Options, 'width'> {
  const paths = UPlot.paths.bars?.({ size: [0.8, 16], align: 1 });
  return {
    height: 110,
    legend: { show: false },
    cursor: { y: false, points: { show: false }, drag: { x: true, y: false, setScale: false } },
    scales: {
      x: { range: (_plot, least, most) => [least, most + bucketMs / 1_000] },
      y: { range: (_plot, _least, most) => [0, Math.max(4, most)] },
    },
    axes: [
      {
        stroke: colors.text,
        grid: { show: false },
        ticks: { show: false },
        size: 24,
        space: 70,
        values: (_plot, seconds) =>
          seconds.map((second) => (isLong ? format.date : format.time)(second * 1_000)),
      },
      {
        stroke: colors.text,
        grid: { stroke: colors.grid, width: 1 },
        ticks: { show: false },
        size: 48,
        incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000],
        space: 28,
        // The zero would touch the first time below it.
        values: (_plot, numbers) => numbers.map((number) => (number === 0 ? '' : format.number(number))),
      },
    ],
    series: [
      {},
      { fill: colors.main, stroke: colors.main, width: 0, points: { show: false }, ...(paths && { paths }) },
    ],
  };
}

interface PlotProps {
  readonly options: Omit<UPlot.Options, 'width'>;
  readonly data: UPlot.AlignedData;
  /** Read out by screen readers. */
  readonly label: string;
}

/** A chart as wide as its container. Pass the same `options` object until one of them changes. */
function Plot({ options, data, label }: PlotProps) {
  const ref = useRef<HTMLDivElement>(null);
  const plot = useRef<UPlot | null>(null);
  const latest = useRef(data);
  useEffect(() => {
    const element = ref.current;
    if (element === null) return;
    const created = new UPlot({ ...options, width: element.clientWidth }, latest.current, element);
    plot.current = created;
    const observer = new ResizeObserver(() => {
      created.setSize({ width: element.clientWidth, height: options.height });
    });
    observer.observe(element);
    return () => {
      observer.disconnect();
      created.destroy();
      plot.current = null;
    };
  }, [options]);
  useEffect(() => {
    latest.current = data;
    plot.current?.setData(data);
  }, [data]);
  return <div ref={ref} role="img" aria-label={label} className="fc-plot" />;
}

/** The theme's colors as values: a canvas cannot use CSS variables. */
function usePlotColors() {
  const scheme = useComputedColorScheme('light');
  const { colors } = useMantineTheme();
  return useMemo(() => {
    const dark = scheme === 'dark';
    return {
      main: dark ? colors.indigo[4] : colors.indigo[6],
      text: dark ? colors.dark[1] : colors.gray[7],
      grid: dark ? colors.dark[5] : colors.gray[2],
    };
  }, [scheme, colors]);
}
