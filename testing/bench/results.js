import { mkdir, writeFile } from 'node:fs/promises';
import { availableParallelism, cpus, loadavg, totalmem } from 'node:os';
import path from 'node:path';

/** @import pg from 'pg' */
/** @import { Spread } from './statistics.js' */

/**
 * A limit for a result. `isLeast`: the limit is a minimum, not a maximum.
 *
 * @typedef {{ name: string, value: number, limit: number, unit: string, holds: boolean, isLeast?: boolean }} Bound
 */

/**
 * The machine and time of a measurement. `loadAverage`: of the last minute before it.
 *
 * @typedef {{
 *   measuredAt: string,
 *   processor: string,
 *   cores: number,
 *   memoryGib: number,
 *   loadAverage: number,
 *   node: string,
 *   postgresql: string,
 * }} Machine
 */

/**
 * @param {pg.Client} client
 * @returns {Promise<Machine>}
 */
export async function describeMachine(client) {
  /** @type {pg.QueryResult<{ version: string }>} */
  const { rows } = await client.query("SELECT current_setting('server_version') AS version");
  return {
    measuredAt: new Date().toISOString(),
    processor: cpus()[0]?.model.trim() ?? 'unknown',
    cores: availableParallelism(),
    memoryGib: Math.round(totalmem() / 2 ** 30),
    loadAverage: Number((loadavg()[0] ?? 0).toFixed(2)),
    node: process.version,
    postgresql: rows[0]?.version ?? 'unknown',
  };
}

/** @param {Machine} machine */
export function machineLine(machine) {
  const { processor, cores, memoryGib, loadAverage, node, postgresql, measuredAt } = machine;
  return `${processor}, ${cores} cores, ${memoryGib} GiB; Node ${node}, PostgreSQL ${postgresql}; load average at the start ${loadAverage}; ${measuredAt}`;
}

/**
 * Writes `<name>.json` into the folder.
 *
 * @param {string} name
 * @param {object} result
 * @param {string} [folder] default `bench/results`
 * @returns {Promise<string>} the file, as seen from the current folder
 */
export async function saveResult(name, result, folder) {
  return await saveFile(`${name}.json`, `${JSON.stringify(result, null, 2)}\n`, folder);
}

/**
 * Writes a file of results.
 *
 * @param {string} name
 * @param {string} content
 * @param {string} [folder] default `bench/results`
 * @returns {Promise<string>} the file, as seen from the current folder
 */
export async function saveFile(name, content, folder = path.join(import.meta.dirname, 'results')) {
  await mkdir(folder, { recursive: true });
  const file = path.join(folder, name);
  await writeFile(file, content);
  return path.relative(process.cwd(), file);
}

/**
 * @param {string} name
 * @param {number} value
 * @param {number} limit maximum
 * @param {string} unit suffix of the figures; default: a factor
 * @returns {Bound}
 */
export function bound(name, value, limit, unit = 'x') {
  return { name, value, limit, unit, holds: value <= limit };
}

/** @param {Bound} bound */
export function boundLine({ name, value, limit, unit, holds, isLeast = false }) {
  const side = isLeast ? 'at least' : 'at most';
  return `${holds ? 'holds ' : 'MISSED'} ${name}: ${value.toFixed(2)}${unit} (${side} ${limit}${unit})`;
}

/**
 * Formats the median and the range of the rounds, e.g. `1.23 (1.10-1.40)`; only the figure if they are equal.
 *
 * @param {Spread} figure
 */
export function spreadCell({ median, low, high }) {
  if (low === high) return figure(median);
  return `${figure(median)} (${figure(low)}-${figure(high)})`;
}

/**
 * Formats a figure with two decimals below 100, otherwise with none.
 *
 * @param {number} value
 */
export function figure(value) {
  return value.toFixed(value < 100 ? 2 : 0);
}

/**
 * Returns a Markdown table with aligned columns.
 *
 * @param {readonly string[]} head
 * @param {readonly (readonly string[])[]} rows each as long as `head`
 * @returns {string}
 */
export function markdownTable(head, rows) {
  const widths = head.map((title, column) =>
    Math.max(title.length, ...rows.map((row) => (row[column] ?? '').length)),
  );
  /** @param {readonly string[]} cells */
  const line = (cells) => `| ${cells.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join(' | ')} |`;
  return [line(head), line(widths.map((width) => '-'.repeat(width))), ...rows.map(line)].join('\n');
}

/**
 * Shows the progress on one line of the terminal, which the next call overwrites. Does nothing if stderr is not a
 * terminal.
 *
 * @param {string} text
 */
export function showProgress(text) {
  if (process.stderr.isTTY) process.stderr.write(`\r\u001b[2K${text}`);
}

/** Removes the progress line. */
export function clearProgress() {
  showProgress('');
}
