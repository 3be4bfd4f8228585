import { accessMutations } from './access.js';
import { deliveryMutations } from './delivery.js';
import { eventLogMutations } from './event-log.js';
import { batchedWriteMutations } from './batched-writes.js';

/**
 * The mutations of `npm run mutations`, and the tests that must fail. Each mutation removes one promise from the code.
 *
 * @typedef {object} Edit
 * @property {string} file from the root of the repository
 * @property {string} find text that occurs exactly once in the file
 * @property {string} replace
 *
 * @typedef {object} Mutation
 * @property {string} name
 * @property {string} [guarantee] number of the violated guarantee in PROTOCOL.md
 * @property {string} broken one sentence: the effect of the mutation
 * @property {readonly Edit[]} edits
 * @property {readonly string[]} tests test files, in which at least one test must fail
 */

/** @type {readonly Mutation[]} */
export const mutations = [
  ...deliveryMutations,
  ...eventLogMutations,
  ...batchedWriteMutations,
  ...accessMutations,
];
