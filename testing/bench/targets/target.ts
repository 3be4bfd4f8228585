import { randomUUID } from 'node:crypto';
import type { Bench } from '../benchmark.ts';
import type { Address } from '../load/receivers.ts';

export interface TargetOptions {
  /** The number of channels. */
  readonly channels: number;
  /** The number of clients that the server must accept. */
  readonly clients: number;
}

/** A running server under test. */
export interface RunningTarget extends Address {
  /** Publishes one event for each listed channel as one burst; a channel may be listed several times. */
  readonly publish: (channels: readonly number[]) => unknown;
  /** Processes whose processor time and memory count. */
  readonly pids: readonly number[];
  readonly end: () => Promise<void>;
}

/** A server that benchmarks can start. */
export interface Target {
  readonly kind: string;
  readonly name: string;
  /** Default: it is. */
  readonly isInstalled?: () => boolean | Promise<boolean>;
  readonly start: (bench: Bench, options: TargetOptions) => Promise<RunningTarget>;
}

/** The name of a channel of a server without projects. */
export const channelName = (channel: number) => `channel-${channel}`;

const projectId = randomUUID();

/** Returns a message of the same form and length as those of Flagcast's plain dialect. */
export function messageText(): string {
  return JSON.stringify({
    source: 'audit',
    type: 'feature_params_updated',
    timestamp: new Date().toISOString(),
    project_id: projectId,
    environment: 'prod',
    entity: 'feature_params',
    entity_id: randomUUID(),
    action: 'updated',
  });
}
