import { flagcast } from './flagcast.js';
import { mosquitto } from './mosquitto.js';
import { nchan } from './nchan.js';
import { nodeServer } from './node-server.js';
import { UsageError } from '../../testkit/command.ts';

/** @import { Target } from './target.js' */

/**
 * All servers that are compared, Flagcast first.
 *
 * @type {readonly Target[]}
 */
const targets = [
  flagcast('flagcast'),
  flagcast('flagcast.v1'),
  nodeServer('ws'),
  nodeServer('prebuilt'),
  nodeServer('io_uring'),
  nodeServer('socket.io'),
  nchan,
  mosquitto,
];

/**
 * Returns the targets of these kinds, in the order above.
 *
 * @param {readonly string[] | undefined} kinds default all
 * @returns {readonly Target[]}
 * @throws UsageError
 */
export function chooseTargets(kinds) {
  if (kinds === undefined) return targets;
  const known = targets.map(({ kind }) => kind);
  for (const kind of kinds) {
    if (!known.includes(kind)) {
      throw new UsageError(`There is no target ${JSON.stringify(kind)}: use some of ${known.join(', ')}`);
    }
  }
  return targets.filter(({ kind }) => kinds.includes(kind));
}
