import { flagcast } from './flagcast.js';
import { mosquitto } from './mosquitto.js';
import { nchan } from './nchan.js';
import { nodeServer } from './node.js';
import { UsageError } from '../options.js';

/** @import { Contender } from './contender.js' */

/**
 * All servers that are compared, ours first.
 *
 * @type {readonly Contender[]}
 */
const contenders = [
  flagcast('flagcast'),
  flagcast('flagcast.v1'),
  nodeServer('ws'),
  nodeServer('prebuilt'),
  nodeServer('ring'),
  nodeServer('socket.io'),
  nchan,
  mosquitto,
];

/**
 * The contenders of these kinds, in the order above.
 *
 * @param {readonly string[] | undefined} kinds default all
 * @returns {readonly Contender[]}
 * @throws UsageError
 */
export function chooseContenders(kinds) {
  if (kinds === undefined) return contenders;
  const known = contenders.map(({ kind }) => kind);
  for (const kind of kinds) {
    if (!known.includes(kind)) {
      throw new UsageError(`There is no contender ${JSON.stringify(kind)}: say some of ${known.join(', ')}`);
    }
  }
  return contenders.filter(({ kind }) => kinds.includes(kind));
}
