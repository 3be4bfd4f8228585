import { onTestFinished, vi } from 'vitest';
import { WebSocket } from 'ws';
import {
  type Channel,
  type ChannelState,
  type Client,
  type ClientOptions,
  createClient,
  type WebSocketClass,
} from '../../src/index.js';
import type { Snapshot } from '#protocol';
import { createChannelModel } from '../../src/channel-model.js';
import { createStore, type Store } from '../../src/store.js';
import { caughtUp, type ScriptedConnection, ScriptedServer, stageName } from './scripted-server.js';

/** Throws as in a page whose policy forbids WebSockets. */
export const noWebSocket = function () {
  throw new Error('WebSockets are not available');
} as unknown as WebSocketClass;

/** A scripted server and its clients. They are closed at the end of the test. */
export interface ClientFixture {
  readonly server: ScriptedServer;
  /** The errors that were passed to `onError` of all clients. */
  readonly errors: unknown[];
  readonly connect: (options?: Partial<ClientOptions>) => Client;
}

const random = Math.random.bind(Math);

/**
 * Shortens the pauses that clients choose at random, up to half a second after a resync and two seconds after a server's
 * shutdown, to a fiftieth.
 */
export function shortenRandomPauses(): void {
  const short = vi.spyOn(Math, 'random').mockImplementation(() => random() / 50);
  onTestFinished(() => short.mockRestore());
}

/**
 * Gives the timers and dates of this process a clock that advances by 20 ms in each turn of the event loop, or each millisecond.
 * Messages of the network take a few turns, also on a busy machine.
 */
export function useFastClock(): void {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'Date', 'performance'] });
  const ticks = setInterval(() => void vi.advanceTimersByTimeAsync(20), 1);
  onTestFinished(() => {
    clearInterval(ticks);
    vi.useRealTimers();
  });
}

export async function startFixture(): Promise<ClientFixture> {
  shortenRandomPauses();
  const server = await ScriptedServer.start();
  onTestFinished(() => server.close());
  const errors: unknown[] = [];
  return {
    server,
    errors,
    connect(options) {
      const client = createClient({
        url: server.url,
        getToken: () => 'token',
        lingerMs: 0,
        WebSocket,
        onError: (error) => errors.push(error),
        ...options,
      });
      onTestFinished(() => client.close());
      return client;
    },
  };
}

export const channelArguments = { projectId: 'p1', env: 'prod' };

export type ChannelStore = Store<ChannelState, Snapshot>;

export function createChannelStore(activityLimit: number, onError: (error: unknown) => void): ChannelStore {
  return createStore(createChannelModel(activityLimit), onError);
}

/** A state with change notifications. */
interface Observable<State> {
  subscribe(listener: () => void): () => void;
  getState(): State;
}

/** Resolves with the state when `predicate` returns true for it. */
export async function until<State>(
  observable: Observable<State>,
  predicate: (state: State) => boolean,
): Promise<State> {
  return await new Promise((resolve) => {
    const check = (): void => {
      const state = observable.getState();
      if (!predicate(state)) return;
      unsubscribe();
      resolve(state);
    };
    const unsubscribe = observable.subscribe(check);
    check();
  });
}

export async function untilStatus(
  channel: Channel,
  status: ChannelState['status']['state'],
): Promise<ChannelState> {
  return await until(channel, (state) => state.status.state === status);
}

/** Resolves when the client's status has this state. */
export async function untilConnection(
  client: Client,
  status: ReturnType<Client['getStatus']>['state'],
): Promise<ReturnType<Client['getStatus']>> {
  const observable = { subscribe: client.subscribe, getState: client.getStatus };
  return await until(observable, (state) => state.state === status);
}

/** Resolves when the next message of this type has been applied. */
export async function untilMessage(client: Client, type: string): Promise<void> {
  await new Promise<void>((resolve) => {
    const off = client.onMessage((message) => {
      if (!('type' in message) || message.type !== type) return;
      off();
      resolve();
    });
  });
}

export const stageArguments = { projectId: 'p1', env: 'stage' };

export interface LiveChannelFixture extends ClientFixture {
  readonly client: Client;
  readonly connection: ScriptedConnection;
  readonly channel: Channel;
}

/** Starts a client with a live channel. */
export async function startLiveChannel(): Promise<LiveChannelFixture> {
  const fixture = await startFixture();
  const client = fixture.connect();
  const channel = client.channel(channelArguments);
  const connection = await fixture.server.connections.next();
  await connection.accept('c1');
  await untilStatus(channel, 'live');
  return { ...fixture, client, connection, channel };
}

export interface TwoChannelsFixture extends ClientFixture {
  readonly client: Client;
  readonly connection: ScriptedConnection;
  readonly prod: Channel;
  readonly stage: Channel;
}

/** Starts a client with the channels prod and stage, both live. */
export async function startTwoChannels(): Promise<TwoChannelsFixture> {
  const fixture = await startFixture();
  const client = fixture.connect();
  const prod = client.channel(channelArguments);
  const stage = client.channel(stageArguments);
  const connection = await fixture.server.connections.next();
  connection.hello();
  await connection.received.next();
  await connection.received.next();
  connection.send(caughtUp('c1'), caughtUp('c1', stageName));
  await Promise.all([untilStatus(prod, 'live'), untilStatus(stage, 'live')]);
  return { ...fixture, client, connection, prod, stage };
}

/** Collects the ids of the channel's events as they arrive. */
export function recordEventIds(channel: Channel): string[] {
  const ids: string[] = [];
  channel.onEvent(({ id }) => ids.push(id));
  return ids;
}

export async function untilEvent(channel: Channel, id: string): Promise<void> {
  await until(channel, ({ lastEvent }) => lastEvent?.id === id);
}
