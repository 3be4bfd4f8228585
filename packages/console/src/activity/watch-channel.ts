import type { Channel, EventMessage } from '@flagcast/client';

interface ChannelListeners {
  readonly onEvent: (event: EventMessage) => void;
  /** Called when the channel is live again. Changes meanwhile may have arrived as a snapshot, without events. */
  readonly onReconnect: () => void;
}

/** Calls the listeners until the returned function is called. */
export function watchChannel(channel: Channel, { onEvent, onReconnect }: ChannelListeners): () => void {
  const stopEvents = channel.onEvent(onEvent);
  let { state } = channel.getState().status;
  const stopStates = channel.subscribe(() => {
    const previous = state;
    ({ state } = channel.getState().status);
    if (state === 'live' && previous !== 'live') onReconnect();
  });
  return () => {
    stopEvents();
    stopStates();
  };
}
