import { ofAccess } from './access.js';
import { ofDelivery } from './delivery.js';
import { ofEventLog } from './event-log.js';
import { ofGatheredWrites } from './gathered-writes.js';

/**
 * What `npm run mutations` breaks, and which tests must notice. Each names a promise by what is left of the code
 * without it.
 *
 * @typedef {object} Edit
 * @property {string} file from the root of the repository
 * @property {string} find the exact text, which is there once
 * @property {string} replace
 *
 * @typedef {object} Mutation
 * @property {string} name
 * @property {string} [guarantee] the number in PROTOCOL.md of what is broken
 * @property {string} broken one sentence: what no longer holds
 * @property {readonly Edit[]} edits
 * @property {readonly string[]} tests files, of which at least one test must fail
 */

/** @type {readonly Mutation[]} */
export const mutations = [...ofDelivery, ...ofEventLog, ...ofGatheredWrites, ...ofAccess];
