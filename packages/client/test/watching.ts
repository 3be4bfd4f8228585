import { afterEach } from 'vitest';
import { WebSocket } from 'ws';
import {
  type Channel,
  type ChannelState,
  type Client,
  type ClientOptions,
  createClient,
} from '../src/index.js';
import { ScriptedServer } from './scripted-server.js';

/** A server and its clients, which the test's end closes. */
export interface Scene {
  readonly server: ScriptedServer;
  /** What `onError` got, of all clients. */
  readonly errors: unknown[];
  readonly client: (options?: Partial<ClientOptions>) => Client;
}

const cleanups: (() => void)[] = [];
afterEach(() => {
  for (const cleanup of cleanups.splice(0).reverse()) cleanup();
});

export async function startScene(): Promise<Scene> {
  const server = await ScriptedServer.start();
  cleanups.push(() => server.close());
  const errors: unknown[] = [];
  return {
    server,
    errors,
    client(options) {
      const client = createClient({
        url: server.url,
        getToken: () => 'token',
        WebSocket,
        onError: (error) => errors.push(error),
        ...options,
      });
      cleanups.push(() => client.close());
      return client;
    },
  };
}

export const channelArguments = { projectId: 'p1', env: 'prod' };

/** Something with a state that it tells of. */
interface Watched<State> {
  subscribe(listener: () => void): () => void;
  getState(): State;
}

/** The state once it fits. */
export async function until<State>(watched: Watched<State>, fits: (state: State) => boolean): Promise<State> {
  return await new Promise((resolve) => {
    const look = (): void => {
      const state = watched.getState();
      if (!fits(state)) return;
      stop();
      resolve(state);
    };
    const stop = watched.subscribe(look);
    look();
  });
}

export async function untilStatus(
  channel: Channel,
  status: ChannelState['status']['state'],
): Promise<ChannelState> {
  return await until(channel, (state) => state.status.state === status);
}

/** The client's status once it fits. */
export async function untilConnection(
  client: Client,
  status: ReturnType<Client['getStatus']>['state'],
): Promise<ReturnType<Client['getStatus']>> {
  const watched = { subscribe: client.subscribe, getState: client.getStatus };
  return await until(watched, (state) => state.state === status);
}
