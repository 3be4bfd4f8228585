'use client';

import { createContext, type ReactNode, useContext, useEffect, useState } from 'react';
import type { Channel, Client } from '../index.js';

/** undefined: there is no provider. null: the provider's channel is not open yet. */
const ChannelContext = createContext<Channel | null | undefined>(undefined);

/**
 * Either a `channel`, which the app opens and closes; or a `client`, `projectId` and `env`: then the provider opens
 * the channel when it is mounted and closes it when it is unmounted.
 */
export type FlagcastProviderProps = { readonly children?: ReactNode } & (
  | { readonly channel: Channel }
  | {
      readonly client: Client;
      /** The project's id. */
      readonly projectId: string;
      /** The environment's key, e.g. `prod`. */
      readonly env: string;
    }
);

/** Provides a channel to the hooks in its children. Renders the children immediately, including on a server. */
export function FlagcastProvider(props: FlagcastProviderProps): ReactNode {
  const { children } = props;
  return 'channel' in props ? (
    <ChannelContext.Provider value={props.channel}>{children}</ChannelContext.Provider>
  ) : (
    <ChannelOpener {...props} />
  );
}

type ChannelOpenerProps = Exclude<FlagcastProviderProps, { channel: Channel }>;

function ChannelOpener({ client, projectId, env, children }: ChannelOpenerProps): ReactNode {
  const [opened, setOpened] = useState<{ client: Client; channel: Channel } | null>(null);
  useEffect(() => {
    const channel = client.channel({ projectId, env });
    setOpened({ client, channel });
    return () => {
      setOpened(null);
      channel.close();
    };
  }, [client, projectId, env]);
  // After a change of the props, the previous channel remains until the effect has run.
  const isCurrent =
    opened?.client === client && opened.channel.projectId === projectId && opened.channel.env === env;
  return (
    <ChannelContext.Provider value={isCurrent ? opened.channel : null}>{children}</ChannelContext.Provider>
  );
}

/**
 * Returns the provider's channel, e.g. for `onEvent` in an effect. null on a server, and in the first rendering of a
 * provider that opens its channel itself. Throws if there is no provider.
 */
export function useChannel(): Channel | null {
  const channel = useContext(ChannelContext);
  if (channel === undefined) {
    throw new Error('No FlagcastProvider found. Wrap the app in <FlagcastProvider>.');
  }
  return channel;
}
