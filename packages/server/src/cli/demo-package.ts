import type pg from 'pg';
import { errorCode } from '../postgres/errors.js';
import type { DemoPerson } from '../api/demo-person.js';
import { CommandError } from './command.js';

/** A PostgreSQL of the demo, as `startEmbeddedPostgres` of @flagcast/demo returns it. */
export interface EmbeddedPostgres {
  readonly dataDir: string;
  readonly port: number;
  /** The connection string. It holds the password: never log it. */
  url(): string;
  stop(mode?: 'fast' | 'immediate'): Promise<void>;
  restart(): Promise<void>;
}

/** What the commands use of @flagcast/demo, which is loaded only where it is asked for. */
export interface DemoPackage {
  readonly startEmbeddedPostgres: (options: {
    readonly dataDir: string;
    readonly copyDir?: string;
    readonly onLog?: (line: string) => void;
    readonly onExit?: (error: Error) => void;
  }) => Promise<EmbeddedPostgres>;
  readonly fillDemo: (client: pg.ClientBase) => Promise<unknown>;
  readonly startTraffic: (options: {
    readonly databaseUrl: string;
    readonly onAction?: (line: string) => void;
  }) => { stop(): Promise<void> };
  readonly demoProjects: readonly { readonly id: string }[];
  readonly demoUsers: readonly DemoPerson[];
}

const packageName = '@flagcast/demo';

/** @throws CommandError that says how to install it. */
export async function loadDemo(): Promise<DemoPackage> {
  try {
    return (await import(packageName)) as DemoPackage;
  } catch (error) {
    if (errorCode(error) !== 'ERR_MODULE_NOT_FOUND') throw error;
    throw new CommandError(
      `The demo needs the package ${packageName}: npm install ${packageName}; or give a database with --database-url or DATABASE_URL`,
      { cause: error },
    );
  }
}
