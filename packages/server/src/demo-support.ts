/** What @flagcast/demo shares with the server. Not a public interface: it changes with both. */
export { hashPassword } from './access/password.js';
export { readFeatureState, ruleState, scheduleState } from './changes/audit-state.js';
export { inTransaction } from './database/transaction.js';
export { readPrivateFile } from './private-file.js';
