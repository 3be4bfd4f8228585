import { afterEach, beforeEach } from 'vitest';
import type { Channel, ClientOptions } from '../src/index.js';
import type { SharedTabsOptions } from '../src/tabs/index.js';
import { type ScriptedPeer, ScriptedServer } from './scripted-server.js';
import { type Tab, TestBrowser } from './tabs.js';
import { channelArguments, until, untilStatus } from './watching.js';

export type { Tab } from './tabs.js';

export interface Pair {
  readonly leader: Tab;
  readonly follower: Tab;
  readonly peer: ScriptedPeer;
  readonly led: Channel;
  readonly following: Channel;
}

/** A server and a browser, new for each test. */
export class TabScene {
  server!: ScriptedServer;
  browser!: TestBrowser;
  /** What `onError` got, of all tabs. */
  errors: unknown[] = [];
  /** How many connections were open each time that one was opened, itself included. */
  openAtOnce: number[] = [];

  async start(): Promise<void> {
    const server = await ScriptedServer.start();
    this.server = server;
    this.browser = new TestBrowser();
    this.errors = [];
    this.openAtOnce = [];
    // The server's own listener has taken the connection by now.
    server.http.on('upgrade', () => {
      const open = server.peers.all.filter(({ socket }) => socket.readyState === socket.OPEN);
      this.openAtOnce.push(open.length);
    });
  }

  close(): void {
    this.browser.close();
    this.server.close();
  }

  openTab(options: Partial<ClientOptions> = {}, tabs: Partial<SharedTabsOptions> = {}): Tab {
    return this.browser.open(
      {
        url: this.server.url,
        getToken: () => 'token',
        onError: (error) => this.errors.push(error),
        ...options,
      },
      tabs,
    );
  }

  /** Two tabs of one channel, both live at the cursor c1. */
  async startPair(): Promise<Pair> {
    const leader = this.openTab();
    const led = leader.client.channel(channelArguments);
    const peer = await this.server.peers.next();
    await peer.accept('c1');
    await untilStatus(led, 'live');
    const follower = this.openTab();
    const following = follower.client.channel(channelArguments);
    await untilStatus(following, 'live');
    return { leader, follower, peer, led, following };
  }
}

export function tabScene(): TabScene {
  const scene = new TabScene();
  beforeEach(async () => await scene.start());
  afterEach(() => scene.close());
  return scene;
}

/** The ids of the channel's events, as they come. */
export function record(channel: Channel): string[] {
  const ids: string[] = [];
  channel.onEvent(({ id }) => ids.push(id));
  return ids;
}

export async function untilEvent(channel: Channel, id: string): Promise<void> {
  await until(channel, ({ lastEvent }) => lastEvent?.id === id);
}
