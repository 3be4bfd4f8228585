import { type Channel, type Client, createClient } from '@flagcast/client';
import { FlagcastProvider, useConnectionStatus } from '@flagcast/client/react';
import { createContext, type ReactNode, use, useEffect, useRef, useState } from 'react';
import { useAppServices } from '../sign-in/app-services.js';
import { type ConnectionInfo, watchConnection } from '../freshness/connection-info.js';
import { createDeliveries, type Deliveries } from '../freshness/deliveries.js';
import { createLastChanges, type LastChanges } from '../features/last-changes.js';

interface Live {
  readonly client: Client;
  /** What is known of its line, now. */
  readonly connectionInfo: () => ConnectionInfo;
}

const LiveContext = createContext<Live | null>(null);

/** One live connection for whoever is signed in; all channels go over it. */
export function LiveClient({ children }: { readonly children: ReactNode }) {
  const { session, basePath } = useAppServices();
  const [live, setLive] = useState<Live | null>(null);
  useEffect(() => {
    const client = createClient({
      url: `${basePath}/`,
      getToken: session.awaitToken,
      activityLimit: 500,
      // What is being tried again shows in the freshness chip.
      onError: () => undefined,
    });
    setLive({ client, connectionInfo: watchConnection(client) });
    return client.close;
  }, [session, basePath]);
  return live === null ? null : <LiveContext value={live}>{children}</LiveContext>;
}

export function useLive(): Live {
  const live = use(LiveContext);
  if (live === null) throw new Error('there is no LiveClient');
  return live;
}

/** Whether the server can read no flags of this database, so that there are events alone; false until it has said so. */
export function useLiveOnly(): boolean {
  const { connectionInfo } = useLive();
  // The server says so before the line is live.
  useConnectionStatus();
  return connectionInfo().hello?.hasState === false;
}

/** The environment on the screen, and what is remembered of its events. */
export interface LiveChannel {
  readonly channel: Channel;
  readonly deliveries: Deliveries;
  readonly lastChanges: LastChanges;
}

const ChannelContext = createContext<LiveChannel | null>(null);

interface LiveChannelProps {
  readonly projectId: string;
  readonly environmentId: string;
  /** The environment's key. The channel stays when the key changes. */
  readonly env: string;
  /** Called when the server has ended the channel, or refused it. */
  readonly onEnd: (code: string) => void;
  readonly children: ReactNode;
}

/** Opens the channel for the pages inside; another environment is another channel. */
export function LiveChannelProvider(props: LiveChannelProps) {
  const { projectId, environmentId, children } = props;
  const { client } = useLive();
  const [live, setLive] = useState<(LiveChannel & { readonly of: string }) | null>(null);
  const latest = useRef(props);
  useEffect(() => {
    latest.current = props;
  });
  useEffect(() => {
    const channel = client.channel({ projectId, env: latest.current.env });
    const deliveries = createDeliveries(client, channel);
    const lastChanges = createLastChanges(channel);
    setLive({ channel, deliveries, lastChanges, of: environmentId });
    const stop = channel.subscribe(() => {
      const { status } = channel.getState();
      if (status.state === 'closed' && status.error !== null) latest.current.onEnd(status.error.code);
    });
    return () => {
      stop();
      deliveries.stop();
      lastChanges.stop();
      channel.close();
    };
  }, [client, projectId, environmentId]);
  if (live?.of !== environmentId || live.channel.projectId !== projectId) return null;
  return (
    <ChannelContext value={live}>
      <FlagcastProvider channel={live.channel}>{children}</FlagcastProvider>
    </ChannelContext>
  );
}

export function useLiveChannel(): LiveChannel {
  const live = use(ChannelContext);
  if (live === null) throw new Error('there is no LiveChannelProvider');
  return live;
}
