import 'uplot/dist/uPlot.min.css';
import { useComputedColorScheme, useMantineTheme } from '@mantine/core';
import { useEffect, useMemo, useRef } from 'react';
import UPlot from 'uplot';

interface PlotProps {
  readonly options: Omit<UPlot.Options, 'width'>;
  readonly data: UPlot.AlignedData;
  /** What a screen reader says in place of the picture. */
  readonly label: string;
}

/** A chart as wide as its place. `options` must be the same object until something changes in it. */
export function Plot({ options, data, label }: PlotProps) {
  const place = useRef<HTMLDivElement>(null);
  const plot = useRef<UPlot | null>(null);
  const latest = useRef(data);
  useEffect(() => {
    const element = place.current;
    if (element === null) return;
    const made = new UPlot({ ...options, width: element.clientWidth }, latest.current, element);
    plot.current = made;
    const observer = new ResizeObserver(() => {
      made.setSize({ width: element.clientWidth, height: options.height });
    });
    observer.observe(element);
    return () => {
      observer.disconnect();
      made.destroy();
      plot.current = null;
    };
  }, [options]);
  useEffect(() => {
    latest.current = data;
    plot.current?.setData(data);
  }, [data]);
  return <div ref={place} role="img" aria-label={label} className="fc-plot" />;
}

export interface PlotColors {
  readonly main: string;
  readonly second: string;
  readonly fill: string;
  readonly text: string;
  readonly grid: string;
}

/** A canvas knows no CSS variables. */
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
