import { availableParallelism, cpus, loadavg, totalmem } from 'node:os';
import { type Bound, boundLine, markdownTable, saveResult } from '../testkit/report.ts';
import type { Spread } from './rounds.ts';

type Cell = string | number | Spread;

/** The rows have the same keys, which are the heads of the columns. */
export interface Table {
  readonly caption?: string;
  readonly rows: readonly Readonly<Record<string, Cell>>[];
}

/** What a benchmark found. */
export interface Report {
  /** What the figures are, and in which unit. */
  readonly title: string;
  readonly tables: readonly Table[];
  readonly bounds: readonly Bound[];
}

/** The machine and time of a measurement, with the load average of the last minute. */
export function describeMachine(postgresql: string): string {
  const [cpu] = cpus();
  const memoryGib = Math.round(totalmem() / 2 ** 30);
  const load = (loadavg()[0] ?? 0).toFixed(1);
  return `${cpu?.model.trim() ?? 'unknown'}, ${availableParallelism()} cores, ${memoryGib} GiB; Node ${process.version}, PostgreSQL ${postgresql}; load average at the start ${load}; ${new Date().toISOString()}`;
}

/** Prints the report and writes `<name>.json` into the folder. */
export async function publish(
  { title, tables, bounds }: Report,
  { name, command, machine, folder }: { name: string; command: string; machine: string; folder: string },
): Promise<void> {
  const file = await saveResult(name, { title, command, machine, bounds, tables }, folder);
  const filled = tables.filter(({ rows }) => rows.length > 0);
  const blocks = filled.flatMap(({ caption, rows }) => [
    ...(caption === undefined ? [] : [`${caption}:`]),
    markdown(rows),
  ]);
  console.log([`${title}\n${machine}\n${command}`, ...blocks, `Written to ${file}`].join('\n\n'));
  for (const bound of bounds) console.log(boundLine(bound));
}

function markdown(rows: Table['rows']): string {
  const head = Object.keys(rows[0] ?? {});
  const cells = rows.map((row) => head.map((column) => cellText(row[column] ?? '')));
  return markdownTable(head, cells);
}

/** A spread is its median and range, such as `1.23 (1.10-1.40)`; only the figure if all rounds are equal. */
function cellText(cell: Cell): string {
  if (typeof cell === 'string') return cell;
  if (typeof cell === 'number') return figure(cell);
  const { median, low, high } = cell;
  return low === high ? figure(median) : `${figure(median)} (${figure(low)}-${figure(high)})`;
}

/** Whole numbers as they are, others with two decimals below 100, else with none. */
function figure(value: number): string {
  return value.toFixed(Number.isInteger(value) || Math.abs(value) >= 100 ? 0 : 2);
}
