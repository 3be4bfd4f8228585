import type { Bench } from '../benchmark.ts';
import { flagcastTarget } from './flagcast.ts';
import { nchan } from './nchan.ts';
import { nodeServer } from './node-server.ts';
import type { Target } from './target.ts';

/** All servers that are compared, Flagcast first. */
const targets: readonly Target[] = [
  flagcastTarget('flagcast', 'Flagcast', 'text'),
  flagcastTarget('flagcast-writes', 'Flagcast without io_uring', 'text', { FLAGCAST_IO_URING: 'off' }),
  flagcastTarget('flagcast.v1', 'Flagcast, flagcast.v1', 'flagcast.v1'),
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
    if (await target.isInstalled()) chosen.push(target);
    else step(`${target.name} is skipped, because it is not installed`);
  }
  return chosen;
}

/** Whether a row of a table is one of Flagcast, by the name of its target. */
export const isFlagcast = ({ target }: { readonly target: string }) => target.startsWith('Flagcast');
