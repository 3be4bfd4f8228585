import { mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';

/** A limit for a result. */
export interface Bound {
  readonly name: string;
  readonly value: number;
  readonly limit: number;
  /** The suffix of the figures. */
  readonly unit: string;
  /** Whether the limit is the least value, not the highest. */
  readonly isLeast: boolean;
}

/** The default unit is a factor. */
export function atMost(name: string, value: number, limit: number, unit = 'x'): Bound {
  return { name, value, limit, unit, isLeast: false };
}

/** A least value. */
export function atLeast(name: string, value: number, limit: number, unit = 'x'): Bound {
  return { name, value, limit, unit, isLeast: true };
}

/** A count of what must not happen. */
export const none = (name: string, value: number) => atMost(name, value, 0, '');

/** False for a value that is not a number. */
export function holds({ value, limit, isLeast }: Bound): boolean {
  return isLeast ? value >= limit : value <= limit;
}

export function boundLine(bound: Bound): string {
  const { name, value, limit, unit, isLeast } = bound;
  const side = isLeast ? 'at least' : 'at most';
  return `${holds(bound) ? 'holds ' : 'MISSED'} ${name}: ${value.toFixed(2)}${unit} (${side} ${limit}${unit})`;
}

/** Writes `<name>.json` into the folder. Resolves with the file, as seen from the current folder. */
export async function saveResult(name: string, result: object, folder: string): Promise<string> {
  await mkdir(folder, { recursive: true });
  const file = path.join(folder, `${name}.json`);
  await writeFile(file, `${JSON.stringify(result, null, 2)}\n`);
  return path.relative(process.cwd(), file);
}

/** Returns a Markdown table with aligned columns. */
export function markdownTable(
  head: readonly string[],
  rows: readonly (readonly (string | number)[])[],
): string {
  const cells = [head, ...rows].map((row) => row.map(String));
  const widths = head.map((_title, column) => Math.max(...cells.map((row) => row[column]?.length ?? 0)));
  const [first = '', ...others] = cells.map(
    (row) => `| ${row.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join(' | ')} |`,
  );
  return [first, `| ${widths.map((width) => '-'.repeat(width)).join(' | ')} |`, ...others].join('\n');
}

/** Shows a step on one line of the terminal, which the next call overwrites. The empty text removes the line. */
export function showProgress(text: string): void {
  if (process.stderr.isTTY) process.stderr.write(`\r\u001b[2K${text}`);
}
