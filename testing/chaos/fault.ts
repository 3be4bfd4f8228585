import type { EmbeddedPostgres } from '@flagcast/demo';
import type { TestChannel } from '../testkit/channel.ts';
import type { FaultyProxy } from '../testkit/faulty-proxy.ts';
import type { TestNats } from '../testkit/nats-server.ts';
import type { Revocation } from '../testkit/segment-checker.ts';
import type { SeededDatabase } from '../testkit/seed-database.ts';
import type { PlannedFault } from './plan.ts';
import type { ServerProcess } from './server-process.ts';
import type { TokenIssuer } from './tokens.ts';

/** The system under test. */
export interface ChaosSystem extends SeededDatabase {
  readonly postgres: EmbeddedPostgres;
  /** No fault ends the first one, so that its memory growth and leaks can be measured. */
  readonly servers: readonly [ServerProcess, ...ServerProcess[]];
  /** Null without the relay. */
  readonly nats: TestNats | null;
  /** The end of its last fault, in milliseconds since the epoch; Infinity during one. */
  natsBackAtMs: number;
  readonly proxy: FaultyProxy;
  /** Those of all projects. */
  readonly channels: readonly TestChannel[];
  /** Number of audit rows that a fault removed and that were missing in the event log. */
  unlogged: number;
  /** Number of imports so far. */
  imports: number;
  readonly tokens: TokenIssuer;
  readonly revocations: Revocation[];
  /** Of the run. */
  readonly durationMs: number;
  /** Aborted when the run is interrupted. */
  readonly signal: AbortSignal;
}

/** Injects a fault, ends it, and resolves with a description. */
export type RunFault = (system: ChaosSystem, plan: PlannedFault, server: ServerProcess) => Promise<string>;

/** Faults by their kind. */
export type Faults = Readonly<Record<string, RunFault>>;
