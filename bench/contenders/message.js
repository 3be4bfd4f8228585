import { randomUUID } from 'node:crypto';

const projectId = randomUUID();

/**
 * A message as the product's plain dialect has it, of the same length.
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
