import { afterEach, beforeEach } from 'vitest';
import type { Channel, ClientOptions } from '../../src/index.js';
import type { SharedTabsOptions } from '../../src/tabs/index.js';
import { type ScriptedConnection, ScriptedServer } from './scripted-server.js';
import { type Tab, TestBrowser } from './test-browser.js';
import { channelArguments, shortenRandomPauses, untilStatus } from './client-fixture.js';

export type { Tab } from './test-browser.js';

export interface TabPair {
  readonly leader: Tab;
  readonly follower: Tab;
  readonly connection: ScriptedConnection;
  readonly leaderChannel: Channel;
  readonly followerChannel: Channel;
}

/** A scripted server and a browser, new for each test. */
export class TabFixture {
  server!: ScriptedServer;
  browser!: TestBrowser;
  /** The errors that were passed to `onError` of all tabs. */
  errors: unknown[] = [];
  /** For each new connection: the number of open connections, including the new one. */
  openConnectionCounts: number[] = [];

  async start(): Promise<void> {
    shortenRandomPauses();
    const server = await ScriptedServer.start();
    this.server = server;
    this.browser = new TestBrowser();
    this.errors = [];
    this.openConnectionCounts = [];
    // The server's listener, which was added first, has already accepted the connection.
    server.http.on('upgrade', () => {
      const open = server.connections.all.filter(({ socket }) => socket.readyState === socket.OPEN);
      this.openConnectionCounts.push(open.length);
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

  /** Opens two tabs with the same channel, both live at the cursor c1. */
  async startPair(): Promise<TabPair> {
    const leader = this.openTab();
    const leaderChannel = leader.client.channel(channelArguments);
    const connection = await this.server.connections.next();
    await connection.accept('c1');
    await untilStatus(leaderChannel, 'live');
    const follower = this.openTab();
    const followerChannel = follower.client.channel(channelArguments);
    await untilStatus(followerChannel, 'live');
    return { leader, follower, connection, leaderChannel, followerChannel };
  }
}

export function useTabFixture(): TabFixture {
  const fixture = new TabFixture();
  beforeEach(async () => await fixture.start());
  afterEach(() => fixture.close());
  return fixture;
}
