import type uPlot from 'uplot';
import { type CSSProperties, useMemo } from 'react';
import { Plot, usePlotColors } from '../activity/plot.js';
import { useI18n } from '../i18n/i18n.js';
import type { Delivery } from './deliveries.js';
import { stagesOf } from './delivery-table.js';

/** The time from commit to screen, one point per event, oldest on the left. */
export default function DeliveryPlot({ recent }: { readonly recent: readonly Delivery[] }) {
  const { t } = useI18n();
  const colors = usePlotColors();
  const data = useMemo<uPlot.AlignedData>(() => {
    const oldestFirst = [...recent].reverse();
    const stages = oldestFirst.map(stagesOf);
    return [
      oldestFirst.map((_, index) => index + 1),
      stages.map(({ total }) => total),
      stages.map(({ applied, received }) => Math.max(0, received) + applied),
    ];
  }, [recent]);
  const options = useMemo<Omit<uPlot.Options, 'width'>>(
    () => ({
      height: 150,
      legend: { show: false },
      cursor: { show: false },
      scales: { x: { time: false }, y: { range: (_plot, _least, most) => [0, Math.max(10, most * 1.1)] } },
      axes: [
        { show: false },
        { stroke: colors.text, grid: { stroke: colors.grid, width: 1 }, ticks: { show: false }, size: 40 },
      ],
      series: [
        {},
        { stroke: colors.main, width: 2, fill: colors.fill, points: { size: 4 } },
        { stroke: colors.second, width: 1.5, points: { show: false } },
      ],
    }),
    [colors],
  );
  return (
    <div>
      <Plot options={options} data={data} label={t.freshness.plotLabel} />
      <div className="fc-legend">
        <LegendItem color={colors.main} text={t.freshness.plotTotal} />
        <LegendItem color={colors.second} text={t.freshness.plotHere} />
      </div>
    </div>
  );
}

function LegendItem({ color, text }: { readonly color: string; readonly text: string }) {
  return <span style={{ '--fc-line-color': color } as CSSProperties}>{text}</span>;
}
