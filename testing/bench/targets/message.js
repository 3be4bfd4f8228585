import { randomUUID } from 'node:crypto';

const projectId = randomUUID();

/**
 * Returns a message of the same form and length as those of Flagcast's plain dialect.
 *
 * @returns {string}
 */
export function messageText() {
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
