import { Text } from '@mantine/core';
import { useMemo } from 'react';
import UPlot from 'uplot';
import { useNowMs } from '../shell/relative-time.js';
import { useI18n } from '../i18n/i18n.js';
import { Plot, usePlotColors } from './plot.js';
import { bucketMs, countByBucket } from './recent-events.js';

/** Events of the last half hour, one bar per half minute. `times`: of each event, in milliseconds since the epoch. */
export default function ActivityChart({ times }: { readonly times: readonly number[] }) {
  const { t, format } = useI18n();
  const colors = usePlotColors();
  const nowMs = useNowMs(bucketMs);
  const last = Math.floor(nowMs / bucketMs);
  const counts = useMemo(() => countByBucket(times, last), [times, last]);
  const data = useMemo<UPlot.AlignedData>(() => {
    const startSeconds = counts.map((_, index) => ((last - counts.length + 1 + index) * bucketMs) / 1_000);
    return [startSeconds, [...counts]];
  }, [counts, last]);
  const options = useMemo<Omit<UPlot.Options, 'width'>>(
    () => ({
      height: 110,
      legend: { show: false },
      cursor: { show: false },
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
          values: (_plot, seconds) => seconds.map((second) => format.time(second * 1_000)),
        },
        {
          stroke: colors.text,
          grid: { stroke: colors.grid, width: 1 },
          ticks: { show: false },
          size: 34,
          incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000],
          space: 28,
        },
      ],
      series: [
        {},
        {
          fill: colors.main,
          stroke: colors.main,
          width: 0,
          points: { show: false },
          ...barsPath(),
        },
      ],
    }),
    [colors, format],
  );
  const label = t.activity.chart(counts.reduce((sum, count) => sum + count, 0));
  return (
    <>
      <Text size="xs" c="dimmed" mb={4}>
        {label}
      </Text>
      <Plot options={options} data={data} label={label} />
    </>
  );
}

function barsPath(): Pick<UPlot.Series, 'paths'> {
  const paths = UPlot.paths.bars?.({ size: [0.8, 16], align: 1 });
  return paths === undefined ? {} : { paths };
}
