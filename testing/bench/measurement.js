import { runBounded } from '../testkit/bounded-run.ts';
import { requireFigures, requireFiles } from '../testkit/process-figures.ts';
import { describeMachine, showProgress } from './results.js';
import { connect, startTemporaryPostgres } from '../testkit/postgres.ts';

/** @import { BoundedRun } from '../testkit/bounded-run.ts' */
/** @import { Machine } from './results.js' */
/** @import { EmbeddedPostgres } from '@flagcast/demo' */

/**
 * `clients`: checks that a process may open as many connections, and that the system reports processor time; omit it to
 * skip these checks. `settings`: additional PostgreSQL settings.
 *
 * @typedef {{
 *   readonly name: string,
 *   readonly limitMs: number,
 *   readonly clients?: number,
 *   readonly settings?: Readonly<Record<string, string>>,
 * }} MeasurementOptions
 */

/**
 * Runs a benchmark with its own PostgreSQL, and cleans up after it.
 *
 * @template Result
 * @param {MeasurementOptions} options
 * @param {(given: { run: BoundedRun, postgres: EmbeddedPostgres, machine: Machine }) => Promise<Result>} work
 * @returns {Promise<Result>}
 */
export async function measure({ name, limitMs, clients, settings }, work) {
  if (clients !== undefined) {
    requireFigures();
    await requireFiles(clients);
  }
  return await runBounded(limitMs, async (run) => {
    showProgress(`${name}: starting PostgreSQL`);
    const postgres = await startTemporaryPostgres(run, settings);
    const machine = await describeMachine(await connect(run, postgres.url(), 'bench admin'));
    showProgress(`${name}: starting servers`);
    return await work({ run, postgres, machine });
  });
}
