import { createClient } from '@flagcast/client';
// Only required in Node 20. Since version 22 Node has a global WebSocket.
import { WebSocket } from 'ws';

export function logEvents(url: string, token: string, projectId: string, log: (line: string) => void) {
  const client = createClient({ url, getToken: () => token, WebSocket });
  const channel = client.channel({ projectId, env: 'prod' });
  channel.onEvent(({ type, actor, feature }) => log(`${type} of ${feature?.key ?? '?'} by ${actor ?? '?'}`));
  return client;
}
