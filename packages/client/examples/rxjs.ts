import type { ChannelKey, ChannelState, Client } from '@flagcast/client';
import { Observable } from 'rxjs';

/**
 * The current state of a channel, and each new one. The channel is open while the Observable has subscribers. In Angular:
 * `state = toSignal(channelState(client, { projectId, env: 'prod' }))`.
 */
export function channelState(client: Client, key: ChannelKey) {
  return new Observable<ChannelState>((subscriber) => {
    const channel = client.channel(key);
    subscriber.add(channel.close);
    subscriber.add(channel.store.subscribe((state) => subscriber.next(state)));
  });
}
