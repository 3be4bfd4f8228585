import { type Channel, type Client, createClient } from '@flagcast/client';
import { FlagcastProvider, useConnectionStatus } from '@flagcast/client/react';
import { sharedTabs } from '@flagcast/client/tabs';
import { createSafeContext } from '@mantine/core';
import { Fragment, type ReactNode, useEffect, useEffectEvent, useLayoutEffect, useState } from 'react';
import { useAppServices } from '../sign-in/app-services.js';
import { type ConnectionInfo, watchConnection } from '../freshness/connection-info.js';
import { createDeliveries, type Deliveries } from '../freshness/deliveries.js';
import { createLastChanges, type LastChanges } from '../features/last-changes.js';
import { useScope } from '../shell/scope.js';

interface Live {
  readonly client: Client;
  /** The current state of the connection. */
  readonly connectionInfo: () => ConnectionInfo;
}

const [LiveContext, useLive] = createSafeContext<Live>('useLive needs a LiveClient');
export { useLive };

interface LiveClientProps {
  /** The signed-in user: tabs of different users share nothing. */
  readonly userId: string;
  readonly children: ReactNode;
}

/** Provides the live connection of the signed-in user. All channels share it, in all tabs. */
export function LiveClient({ userId, children }: LiveClientProps) {
  const { session, basePath } = useAppServices();
  const [live, setLive] = useState<Live | null>(null);
  useEffect(() => {
    const client = createClient({
      url: `${basePath}/`,
      getToken: session.awaitToken,
      shareTabs: sharedTabs({ userId, name: 'console' }),
      activityLimit: 500,
      // The freshness chip shows connection errors.
      onError: () => undefined,
    });
    setLive({ client, connectionInfo: watchConnection(client) });
    return client.close;
  }, [session, basePath, userId]);
  return live === null ? null : <LiveContext value={live}>{children}</LiveContext>;
}

/** Whether the database has live events but no flags; false until the server has said so. */
export function useLiveOnly(): boolean {
  const { client } = useLive();
  // The server says so in `hello`, before the connection is live.
  useConnectionStatus();
  return client.getHello()?.embedded_state === false;
}

/** The channel of the environment on the screen, and its recent events. */
export interface LiveChannel {
  readonly environmentId: string;
  readonly channel: Channel;
  readonly deliveries: Deliveries;
  readonly lastChanges: LastChanges;
}

const [ChannelContext, useLiveChannel] = createSafeContext<LiveChannel>(
  'useLiveChannel needs a LiveChannelProvider',
);
export { useLiveChannel };

interface LiveChannelProps {
  readonly projectId: string;
  readonly environmentId: string;
  /** The environment's key. The channel stays when the key changes. */
  readonly env: string;
  /** Called when the server ends or rejects the channel. */
  readonly onEnd: (code: string) => void;
  readonly children: ReactNode;
}

/**
 * Opens the channel of an environment for what is inside. That stays when the environment changes: pages are in a
 * `ChannelPage`.
 */
export function LiveChannelProvider({ projectId, environmentId, env, onEnd, children }: LiveChannelProps) {
  const { client } = useLive();
  const [live, setLive] = useState<LiveChannel | null>(null);
  const openChannel = useEffectEvent(() => client.channel({ projectId, env }));
  const reportEnd = useEffectEvent(onEnd);
  // Before the browser paints, so that a change of the environment never shows an empty page.
  useLayoutEffect(() => {
    const channel = openChannel();
    const deliveries = createDeliveries(client, channel);
    const lastChanges = createLastChanges(client, channel, environmentId);
    setLive({ channel, deliveries, lastChanges, environmentId });
    const stop = channel.subscribe(() => {
      const { status } = channel.getState();
      if (status.state === 'closed' && status.error !== null) reportEnd(status.error.code);
    });
    return () => {
      stop();
      deliveries.stop();
      lastChanges.stop();
      channel.close();
    };
  }, [client, projectId, environmentId]);
  if (live === null) return null;
  return (
    <ChannelContext value={live}>
      <FlagcastProvider channel={live.channel}>{children}</FlagcastProvider>
    </ChannelContext>
  );
}

/** A page about an environment. It begins anew with the channel of each one. */
export function ChannelPage({ children }: { readonly children: ReactNode }) {
  const { project, environment } = useScope();
  const { channel, environmentId } = useLiveChannel();
  // Until the new channel is open, the page would show the flags of one environment under the name of another.
  if (environmentId !== environment.id || channel.projectId !== project.id) return null;
  return <Fragment key={`${project.id} ${environment.id}`}>{children}</Fragment>;
}
