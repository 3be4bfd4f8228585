'use client';

import { createContext, type ReactNode, useContext, useEffect, useState } from 'react';
import type { Channel, Client } from '../index.js';

/** undefined: there is no provider. null: its channel is not open yet. */
const ChannelContext = createContext<Channel | null | undefined>(undefined);

/**
 * Either a `channel`, which its owner opens and closes; or a `client` and the name of a channel, which is
 * open as long as the provider is mounted.
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

/** Gives its channel to the hooks inside. It renders its children at once, also on a server. */
export function FlagcastProvider(props: FlagcastProviderProps): ReactNode {
  const { children } = props;
  return 'channel' in props ? (
    <ChannelContext.Provider value={props.channel}>{children}</ChannelContext.Provider>
  ) : (
    <OpeningProvider {...props} />
  );
}

type OpeningProps = Exclude<FlagcastProviderProps, { channel: Channel }>;

function OpeningProvider({ client, projectId, env, children }: OpeningProps): ReactNode {
  const [opened, setOpened] = useState<{ client: Client; channel: Channel } | null>(null);
  useEffect(() => {
    const channel = client.channel({ projectId, env });
    setOpened({ client, channel });
    return () => {
      setOpened(null);
      channel.close();
    };
  }, [client, projectId, env]);
  // Until the effect has run after a change, the channel is still that of another environment.
  const fits =
    opened?.client === client && opened.channel.projectId === projectId && opened.channel.env === env;
  return <ChannelContext.Provider value={fits ? opened.channel : null}>{children}</ChannelContext.Provider>;
}

/**
 * The provider's channel, e.g. for its `onEvent` in an effect. null on a server and in the first rendering
 * of a provider that opens its channel itself. Throws where there is no provider.
 */
export function useChannel(): Channel | null {
  const channel = useContext(ChannelContext);
  if (channel === undefined) {
    throw new Error('No FlagcastProvider is around this component: put one around the app.');
  }
  return channel;
}
