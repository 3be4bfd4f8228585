/** What @flagcast/demo shares with the server. Not a public interface: it changes with both. */
export { readFeatureState, ruleState, scheduleState } from './host/feature-state.js';
export { inTransaction } from './postgres/transaction.js';
export { readPrivateFile } from './private-file.js';
