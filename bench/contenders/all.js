import { flagcast } from './flagcast.js';
import { mosquitto } from './mosquitto.js';
import { nchan } from './nchan.js';
import { nodeServer } from './node.js';

/** @import { Contender } from './contender.js' */

/**
 * All servers that are compared, ours first.
 *
 * @type {readonly Contender[]}
 */
export const contenders = [
  flagcast('flagcast'),
  flagcast('flagcast.v1'),
  nodeServer('ws'),
  nodeServer('prebuilt'),
  nodeServer('socket.io'),
  nchan,
  mosquitto,
];
