/** @import { BoundedRun } from '../../testkit/bounded-run.ts' */
/** @import { EmbeddedPostgres } from '@flagcast/demo' */
/** @import { DialectName } from '../load/dialects.js' */

/**
 * `channels`: number of channels. `maxConnections`: number of clients that the server must accept.
 *
 * @typedef {{
 *   readonly run: BoundedRun,
 *   readonly postgres: EmbeddedPostgres,
 *   readonly channels: number,
 *   readonly maxConnections: number,
 * }} TargetOptions
 */

/**
 * A running server under test. `address`: the path that clients of a channel connect to, and the topic that they subscribe
 * to. `publish`: publishes one event for each listed channel as one burst; a channel may be listed several times.
 * `cpuPids`, `memoryPid`: processes whose processor time and memory count.
 *
 * @typedef {{
 *   readonly port: number,
 *   readonly dialect: DialectName,
 *   readonly headers: Readonly<Record<string, string>>,
 *   readonly address: (channel: number) => { path: string, topic: string },
 *   readonly publish: (channels: readonly number[]) => Promise<void>,
 *   readonly cpuPids: readonly number[],
 *   readonly memoryPid: number,
 *   readonly end: () => Promise<void>,
 * }} RunningTarget
 */

/**
 * A server that benchmarks can start. `start` returns null if the server is not installed.
 *
 * @typedef {{
 *   readonly kind: string,
 *   readonly name: string,
 *   readonly start: (setting: TargetOptions) => Promise<RunningTarget | null>,
 * }} Target
 */

/** Name of a channel or topic of a server without projects. */
export const channelName = (/** @type {number} */ channel) => `channel-${channel}`;
