import { type Channel, type Client, createClient } from '@flagcast/client';
import { FlagcastProvider, useConnectionStatus } from '@flagcast/client/react';
import { createContext, type ReactNode, use, useEffect, useRef, useState } from 'react';
import { useAppServices } from '../sign-in/app-services.js';
import { type ConnectionInfo, watchConnection } from '../freshness/connection-info.js';
import { createDeliveries, type Deliveries } from '../freshness/deliveries.js';
import { createLastChanges, type LastChanges } from '../features/last-changes.js';

interface Live {
  readonly client: Client;
  /** The current state of the connection. */
  readonly connectionInfo: () => ConnectionInfo;
}

const LiveContext = createContext<Live | null>(null);

/** Provides the live connection of the signed-in user. All channels share it. */
export function LiveClient({ children }: { readonly children: ReactNode }) {
  const { session, basePath } = useAppServices();
  const [live, setLive] = useState<Live | null>(null);
  useEffect(() => {
    const client = createClient({
      url: `${basePath}/`,
      getToken: session.awaitToken,
      activityLimit: 500,
      // The freshness chip shows connection errors.
      onError: () => undefined,
    });
    setLive({ client, connectionInfo: watchConnection(client) });
    return client.close;
  }, [session, basePath]);
  return live === null ? null : <LiveContext value={live}>{children}</LiveContext>;
}

export function useLive(): Live {
  const live = use(LiveContext);
  if (live === null) throw new Error('useLive needs a LiveClient');
  return live;
}

/** Whether the database has live events but no flags; false until the server has said so. */
export function useLiveOnly(): boolean {
  const { connectionInfo } = useLive();
  // The server says so in `hello`, before the connection is live.
  useConnectionStatus();
  return connectionInfo().hello?.hasState === false;
}

/** The channel of the environment on the screen, and its recent events. */
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
  /** Called when the server ends or rejects the channel. */
  readonly onEnd: (code: string) => void;
  readonly children: ReactNode;
}

/** Opens the channel of an environment for the pages inside. */
export function LiveChannelProvider(props: LiveChannelProps) {
  const { projectId, environmentId, children } = props;
  const { client } = useLive();
  const [live, setLive] = useState<(LiveChannel & { readonly environmentId: string }) | null>(null);
  const latest = useRef(props);
  useEffect(() => {
    latest.current = props;
  });
  useEffect(() => {
    const channel = client.channel({ projectId, env: latest.current.env });
    const deliveries = createDeliveries(client, channel);
    const lastChanges = createLastChanges(client, channel, environmentId);
    setLive({ channel, deliveries, lastChanges, environmentId });
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
  if (live?.environmentId !== environmentId || live.channel.projectId !== projectId) return null;
  return (
    <ChannelContext value={live}>
      <FlagcastProvider channel={live.channel}>{children}</FlagcastProvider>
    </ChannelContext>
  );
}

export function useLiveChannel(): LiveChannel {
  const live = use(ChannelContext);
  if (live === null) throw new Error('useLiveChannel needs a LiveChannelProvider');
  return live;
}
