import type { PresenceMessage } from '@flagcast/protocol';
import type { V1Client } from './v1-client.js';

const seen = new WeakMap<V1Client, number>();

/** Resolves when the client is sent exactly these users, as `name` or `name:field`, after what `sees` has returned before. */
export async function sees(client: V1Client, ...names: string[]): Promise<PresenceMessage> {
  const from = seen.get(client) ?? 0;
  const found = (await client.message(
    (message) =>
      message.type === 'presence' &&
      'users' in message &&
      message.users
        .map(({ username, field }) => (field === null ? username : `${username}:${field}`))
        .join() === names.join(),
    from,
  )) as PresenceMessage;
  seen.set(client, client.messages.indexOf(found) + 1);
  return found;
}
