import path from 'node:path';
import type { EmbeddedPostgres } from '@flagcast/demo';
import { type BoundedRun, runBounded } from '../testkit/bounded-run.ts';
import { connect, startTemporaryPostgres } from '../testkit/postgres.ts';
import { requireFiles } from '../testkit/process-figures.ts';
import { holds, showProgress } from '../testkit/report.ts';
import { type Options, readOptions } from './options.ts';
import { describeMachine, publish, type Report } from './report.ts';
import { type Measured, measureInRounds } from './rounds.ts';

/** What a benchmark measures with. */
export interface Bench {
  readonly run: BoundedRun;
  readonly postgres: EmbeddedPostgres;
  /** Shows what is being done. */
  readonly step: (text: string) => void;
  /** See `measureInRounds`. */
  readonly rounds: <Target extends { readonly name: string }, Round>(
    rounds: number,
    targets: readonly Target[],
    measure: (target: Target) => Promise<Round>,
  ) => Promise<readonly Measured<Target, Round>[]>;
}

interface Definition<Defaults extends Options> {
  /** One line: what it measures, and how long that takes. */
  readonly summary: string;
  /** Whether it is not part of `all`. */
  readonly isLong?: boolean;
  readonly options: Defaults;
  /** Additional settings of PostgreSQL. */
  readonly settings?: Readonly<Record<string, string>>;
  readonly measure: (bench: Bench, options: Defaults) => Promise<Report>;
}

export interface Benchmark extends Omit<Definition<Options>, 'measure'> {
  /** Resolves with whether all bounds hold. */
  readonly start: (name: string, args: readonly string[]) => Promise<boolean>;
}

/** The time limit of a run, besides its option `minutes`. */
const limitMinutes = 60;

/** A benchmark with a PostgreSQL of its own. */
export function benchmark<Defaults extends Options>(definition: Definition<Defaults>): Benchmark {
  const { settings, measure, ...described } = definition;
  return {
    ...described,
    start: async (name, args) => {
      const { options, output } = readOptions(definition.options, args);
      const clients = Math.max(0, ...[options.clients ?? 0].flat().map(Number));
      if (clients > 0) await requireFiles(Math.ceil(clients / Number(options.workers ?? 1)));
      const minutes = limitMinutes + Number(options.minutes ?? 0);
      return await runBounded(minutes * 60_000, async (run) => {
        const step = (text: string) => {
          showProgress(`${name}: ${text}`);
          if (!process.stderr.isTTY) console.error(`${name}: ${text}`);
        };
        step('starting PostgreSQL');
        const postgres = await startTemporaryPostgres(run, settings);
        const admin = await connect(run, postgres.url(), 'bench admin');
        const { rows } = await admin.query<{ server_version: string }>('SHOW server_version');
        const machine = describeMachine(rows[0]?.server_version ?? 'unknown');
        const rounds: Bench['rounds'] = async (count, targets, measureOne) =>
          await measureInRounds({ rounds: count, targets }, step, measureOne);
        const report = await measure({ run, postgres, step, rounds }, options);
        showProgress('');
        const folder = output ?? path.join(import.meta.dirname, 'results');
        const command = ['npm run bench --', name, ...args].join(' ');
        await publish(report, { name, command, machine, folder });
        return report.bounds.every(holds);
      });
    },
  };
}
