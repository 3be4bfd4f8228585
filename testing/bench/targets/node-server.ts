import { ioUring } from '@flagcast/io-uring';
import { startServer } from '../../testkit/child.ts';
import type { BroadcastKind } from './broadcast-server.ts';
import { channelName, messageText, type Target } from './target.ts';

/** A server in Node that receives events from its parent process over IPC, the cheapest way. */
export function nodeServer(kind: BroadcastKind, name: string): Target {
  const query = kind === 'socket.io' ? 'socket.io/?EIO=4&transport=websocket&channel=' : '';
  return {
    kind,
    name,
    isInstalled: async () => await Promise.resolve(kind !== 'io_uring' || hasIoUring()),
    start: async ({ run }) => {
      const program = new URL('./broadcast-server.ts', import.meta.url);
      const server = await startServer(run, program, { do: 'start', kind });
      return {
        port: server.port,
        dialect: kind === 'socket.io' ? 'socket.io' : 'text',
        headers: {},
        path: (channel) => `/${query}${channelName(channel)}`,
        publish: async (channels) => {
          const events = channels.map((channel) => [channelName(channel), messageText()]);
          server.send({ do: 'publish', events });
          await Promise.resolve();
        },
        pids: [server.pid],
        end: server.end,
      };
    },
  };
}

function hasIoUring(): boolean {
  try {
    ioUring(() => undefined);
    return true;
  } catch {
    return false;
  }
}
