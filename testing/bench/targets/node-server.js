import { ioUring } from '@flagcast/io-uring';
import { startServer } from '../../testkit/child.ts';
import { channelName } from './target.js';
import { messageText } from './message.js';

/** @import { BroadcastKind } from './broadcast-server.js' */
/** @import { Target } from './target.js' */

/** @type {Readonly<Record<BroadcastKind, string>>} */
const names = {
  ws: 'ws, client.send(text)',
  prebuilt: 'ws, frame built once',
  io_uring: 'the same, by io_uring',
  'socket.io': 'Socket.IO 4',
};

/**
 * A server in Node that receives events from its parent process over IPC, the cheapest way.
 *
 * @param {BroadcastKind} kind
 * @returns {Target}
 */
export function nodeServer(kind) {
  return {
    kind,
    name: names[kind],
    start: async ({ run }) => {
      if (kind === 'io_uring' && !hasIoUring()) return null;
      const server = await startServer(run, new URL('./broadcast-server.js', import.meta.url), {
        do: 'start',
        kind,
      });
      return {
        port: server.port,
        dialect: kind === 'socket.io' ? 'socket.io' : 'text',
        headers: {},
        address: (channel) => ({
          path:
            kind === 'socket.io'
              ? `/socket.io/?EIO=4&transport=websocket&channel=${channelName(channel)}`
              : `/${channelName(channel)}`,
          topic: '',
        }),
        publish: async (channels) => {
          server.send({
            do: 'publish',
            events: channels.map((channel) => [channelName(channel), messageText()]),
          });
          await Promise.resolve();
        },
        cpuPids: [server.pid],
        memoryPid: server.pid,
        end: server.end,
      };
    },
  };
}

function hasIoUring() {
  try {
    ioUring(() => undefined);
    return true;
  } catch {
    return false;
  }
}
