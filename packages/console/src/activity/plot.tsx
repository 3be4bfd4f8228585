import 'uplot/dist/uPlot.min.css';
import { useComputedColorScheme, useMantineTheme } from '@mantine/core';
import { useEffect, useMemo, useRef } from 'react';
import UPlot from 'uplot';

interface PlotProps {
  readonly options: Omit<UPlot.Options, 'width'>;
  readonly data: UPlot.AlignedData;
  /** Read out by screen readers. */
  readonly label: string;
}

/** A chart as wide as its container. Pass the same `options` object until one of them changes. */
export function Plot({ options, data, label }: PlotProps) {
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

export interface PlotColors {
  readonly main: string;
  readonly second: string;
  readonly fill: string;
  readonly text: string;
  readonly grid: string;
}

/** The theme's colors as values: a canvas cannot use CSS variables. */
export function usePlotColors(): PlotColors {
  const scheme = useComputedColorScheme('light');
  const { colors } = useMantineTheme();
  return useMemo(() => {
    const dark = scheme === 'dark';
    const main = dark ? colors.indigo[4] : colors.indigo[6];
    return {
      main,
      second: dark ? colors.teal[4] : colors.teal[7],
      fill: `${main}22`,
      text: dark ? colors.dark[1] : colors.gray[7],
      grid: dark ? colors.dark[5] : colors.gray[2],
    };
  }, [scheme, colors]);
}
