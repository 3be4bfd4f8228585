import { createClient } from '@flagcast/client';
// Node 20 has no WebSocket of its own; from Node 22 on this line and the option can go.
import { WebSocket } from 'ws';

export function logEvents(url: string, token: string, projectId: string, log: (line: string) => void) {
  const client = createClient({ url, getToken: () => token, WebSocket });
  const channel = client.channel({ projectId, env: 'prod' });
  channel.onEvent(({ type, actor, feature }) => log(`${type} of ${feature?.key ?? '?'} by ${actor ?? '?'}`));
  return client;
}
