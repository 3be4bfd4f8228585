import type { EmbeddedPostgres } from '@flagcast/demo';
import type { TestChannel } from '../testkit/channel.ts';
import type { FaultyProxy } from '../testkit/faulty-proxy.ts';
import type { Revocation } from '../testkit/segment-checker.ts';
import type { Approver } from '../testkit/seed-database.ts';
import type { TestUser } from '../testkit/tokens.ts';
import type { PlannedFault } from './plan.ts';
import type { ServerProcess } from './server-process.ts';
import type { TokenIssuer } from './tokens.ts';

/** The system under test. */
export interface NemesisContext {
  readonly postgres: EmbeddedPostgres;
  readonly databaseUrl: string;
  /** No fault ends the first one, so that its memory growth can be measured. */
  readonly servers: readonly ServerProcess[];
  readonly proxy: FaultyProxy;
  readonly channels: readonly TestChannel[];
  readonly importChannel: TestChannel;
  /** Number of audit rows that a fault removed and that were missing in the event log. */
  unlogged: number;
  /** Number of imports so far. */
  imports: number;
  readonly viewers: readonly TestUser[];
  readonly approvers: readonly Approver[];
  readonly tokens: TokenIssuer;
  readonly revocations: Revocation[];
  /** Of the run. */
  readonly durationMs: number;
  /** Aborted when the run is interrupted. */
  readonly signal: AbortSignal;
}

export interface Fault {
  /** What the fault affects; faults of one resource run one after the other. */
  readonly resource:
    | 'server'
    | 'killable server'
    | 'database'
    | 'tokens'
    | 'rights'
    | 'network'
    | 'writers'
    | 'host'
    | 'environments'
    | 'import';
  /** Injects the fault, ends it, and resolves with a description. */
  readonly run: (context: NemesisContext, plan: PlannedFault, server: ServerProcess) => Promise<string>;
}
