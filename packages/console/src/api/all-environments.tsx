import type { Channel, ChannelState } from '@flagcast/client';
import { FlagcastProvider } from '@flagcast/client/react';
import { useQueryClient } from '@tanstack/react-query';
import { type ReactNode, useEffect, useEffectEvent, useMemo, useState } from 'react';
import { ScopeContext, useScope } from '../shell/scope.js';
import { useLive } from './live.js';
import { projectsKey } from './queries.js';
import type { Environment } from './types.js';

/** An environment of the project, with its live state. */
export interface LiveEnvironment {
  readonly environment: Environment;
  readonly channel: Channel;
  readonly state: ChannelState;
}

/** More environments than this are not followed at once: a connection has a limit of channels, and a screen of columns. */
const maxEnvironments = 8;

/**
 * The live states of all environments of the project, in their order; at most eight, the current one among them. Empty
 * until they are open, and if they are not needed. The channels are those of the page's connection, and are open while a
 * component uses this hook.
 */
export function useAllEnvironments(needed = true): readonly LiveEnvironment[] {
  const { client } = useLive();
  const { project, environment: current } = useScope();
  const queries = useQueryClient();
  const followed = useMemo(
    () =>
      project.environments
        .filter((each, index) => needed && (each === current || index < maxEnvironments))
        .slice(-maxEnvironments),
    [project, current, needed],
  );
  const openChannels = useEffectEvent(() =>
    followed.map(({ id, key }) => [id, client.channel({ projectId: project.id, env: key })] as const),
  );
  /** By the ids of the environments. */
  const [opened, setOpened] = useState<ReadonlyMap<string, Omit<LiveEnvironment, 'environment'>>>(new Map());
  // A channel follows its environment when the key changes, so only the ids matter.
  const ids = followed.map(({ id }) => id).join(' ');
  useEffect(() => {
    if (ids === '') return;
    const channels = openChannels();
    const show = (): void =>
      setOpened(new Map(channels.map(([id, channel]) => [id, { channel, state: channel.getState() }])));
    const stops = channels.map(([, channel]) =>
      channel.subscribe(({ status }) => {
        show();
        // The environment may be gone.
        if (status.state === 'closed' && status.error !== null)
          void queries.invalidateQueries({ queryKey: projectsKey });
      }),
    );
    show();
    return () => {
      for (const stop of stops) stop();
      for (const [, channel] of channels) channel.close();
    };
  }, [client, queries, project.id, ids]);
  return useMemo(
    () =>
      followed.flatMap((environment) => {
        const live = opened.get(environment.id);
        // While an environment is renamed, its key may still lead to another one.
        const key = live?.state.environment ?? environment.key;
        return live === undefined || key !== environment.key ? [] : [{ environment, ...live }];
      }),
    [followed, opened],
  );
}

interface InEnvironmentProps {
  readonly live: LiveEnvironment;
  readonly children: ReactNode;
}

/** Components inside, such as a flag's switch, are those of this environment instead of the page's. */
export function InEnvironment({ live: { environment, channel }, children }: InEnvironmentProps) {
  const scope = useScope();
  const value = useMemo(() => ({ ...scope, environment }), [scope, environment]);
  return (
    <ScopeContext value={value}>
      <FlagcastProvider channel={channel}>{children}</FlagcastProvider>
    </ScopeContext>
  );
}
