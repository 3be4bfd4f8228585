import { ioUring } from '@flagcast/io-uring';
import { startServer } from '../../testkit/child.ts';
import type { Bench } from '../benchmark.ts';
import type { BroadcastKind } from './broadcast-server.ts';
import { flagcastTarget } from './flagcast.ts';
import { nchan } from './nchan.ts';
import { channelName, messageText, type Target } from './target.ts';

/** All servers that are compared, Flagcast first. */
const targets: readonly Target[] = [
  flagcastTarget({ kind: 'flagcast', name: 'Flagcast' }),
  flagcastTarget({
    kind: 'flagcast-writes',
    name: 'Flagcast without io_uring',
    env: { FLAGCAST_IO_URING: 'off' },
  }),
  flagcastTarget({ kind: 'flagcast.v1', name: 'Flagcast, flagcast.v1', dialect: 'flagcast.v1' }),
  flagcastTarget({ kind: 'flagcast-workers', name: 'Flagcast, 2 workers', workers: 2 }),
  nodeServer('ws', 'ws, client.send(text)'),
  nodeServer('prebuilt', 'ws, frame built once'),
  nodeServer('io_uring', 'the same, by io_uring'),
  nodeServer('socket.io', 'Socket.IO 4'),
  nchan,
];

export const targetKinds = targets.map(({ kind }) => kind);

/** Returns the targets of these kinds that are installed, in the order above. */
export async function chooseTargets({ step }: Bench, kinds: readonly string[]): Promise<readonly Target[]> {
  const chosen = [];
  for (const target of targets.filter(({ kind }) => kinds.includes(kind))) {
    if ((await target.isInstalled?.()) ?? true) chosen.push(target);
    else step(`${target.name} is skipped, because it is not installed`);
  }
  return chosen;
}

/** Whether a row of a table is one of Flagcast, by the name of its target. */
export const isFlagcast = ({ target }: { readonly target: string }) => target.startsWith('Flagcast');

/** A server in Node that receives events from its parent process over IPC, the cheapest way. */
function nodeServer(kind: Exclude<BroadcastKind, 'notify'>, name: string): Target {
  const query = kind === 'socket.io' ? 'socket.io/?EIO=4&transport=websocket&channel=' : '';
  return {
    kind,
    name,
    isInstalled: () => kind !== 'io_uring' || hasIoUring(),
    start: async ({ run }) => {
      const program = new URL('./broadcast-server.ts', import.meta.url);
      const server = await startServer(run, program, { do: 'start', kind });
      return {
        port: server.port,
        dialect: kind === 'socket.io' ? 'socket.io' : 'text',
        headers: {},
        path: (channel) => `/${query}${channelName(channel)}`,
        publish: (channels) => {
          const events = channels.map((channel) => [channelName(channel), messageText()]);
          server.send({ do: 'publish', events });
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
