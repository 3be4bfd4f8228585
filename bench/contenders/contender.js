/** @import { BoundedRun } from '../bounded-run.js' */
/** @import { EmbeddedPostgres } from '../../packages/demo/dist/embedded/embedded.js' */
/** @import { DialectName } from '../load/dialects.js' */

/**
 * What a measurement gives the contenders. `channels`: how many there are; `maxConnections`: how many
 * clients a server has to take.
 *
 * @typedef {{
 *   readonly run: BoundedRun,
 *   readonly postgres: EmbeddedPostgres,
 *   readonly channels: number,
 *   readonly maxConnections: number,
 * }} Setting
 */

/**
 * A server that hands events to clients, as it runs. `address`: where the clients of a channel connect, and
 * what they subscribe to there. `publish` brings one event to each of the channels named, a channel that is
 * named twice gets two; all of it as one burst. `cpuPids`: whose processor time is the server's;
 * `memoryPid`: whose memory.
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
 * }} RunningContender
 */

/**
 * `start` answers null where the server is not installed.
 *
 * @typedef {{
 *   readonly kind: string,
 *   readonly name: string,
 *   readonly start: (setting: Setting) => Promise<RunningContender | null>,
 * }} Contender
 */

/** The names of channels and topics of those that know no projects. */
export const channelName = (/** @type {number} */ channel) => `channel-${channel}`;
