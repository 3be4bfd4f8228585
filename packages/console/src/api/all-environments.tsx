import type { Channel, ChannelState } from '@flagcast/client';
import { FlagcastProvider } from '@flagcast/client/react';
import { useQueryClient } from '@tanstack/react-query';
import {
  type ReactNode,
  useCallback,
  useEffect,
  useMemo,
  useRef,
  useState,
  useSyncExternalStore,
} from 'react';
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
  const latest = useRef(followed);
  useEffect(() => {
    latest.current = followed;
  });
  const [channels, setChannels] = useState<ReadonlyMap<string, Channel>>(new Map());
  // A channel follows its environment when the key changes, so only the ids matter.
  const ids = followed.map(({ id }) => id).join(' ');
  useEffect(() => {
    const opened = new Map(
      latest.current.map(({ id, key }) => [id, client.channel({ projectId: project.id, env: key })]),
    );
    const stops = Array.from(opened.values(), (channel) =>
      channel.subscribe(({ status }) => {
        // The environment may be gone.
        if (status.state === 'closed' && status.error !== null)
          void queries.invalidateQueries({ queryKey: projectsKey });
      }),
    );
    setChannels(opened);
    return () => {
      for (const stop of stops) stop();
      for (const channel of opened.values()) channel.close();
    };
  }, [client, queries, project.id, ids]);
  const states = useStates(channels);
  return useMemo(
    () =>
      followed.flatMap((environment) => {
        const [channel, state] = [channels.get(environment.id), states.get(environment.id)];
        if (channel === undefined || state === undefined) return [];
        // While an environment is renamed, its key may still lead to another one.
        if (state.environment !== null && state.environment !== environment.key) return [];
        return [{ environment, channel, state }];
      }),
    [followed, channels, states],
  );
}

/** The states of the channels, as one value that changes with each of them. */
function useStates(channels: ReadonlyMap<string, Channel>): ReadonlyMap<string, ChannelState> {
  const subscribe = useCallback(
    (listener: () => void) => {
      const stops = Array.from(channels.values(), (channel) => channel.subscribe(listener));
      return () => {
        for (const stop of stops) stop();
      };
    },
    [channels],
  );
  const getStates = useMemo(() => {
    let states: ReadonlyMap<string, ChannelState> = new Map();
    return () => {
      const isSame = [...channels].every(([id, channel]) => states.get(id) === channel.getState());
      if (!isSame) states = new Map(Array.from(channels, ([id, channel]) => [id, channel.getState()]));
      return states;
    };
  }, [channels]);
  return useSyncExternalStore(subscribe, getStates);
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
