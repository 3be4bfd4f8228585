import type { ServerMessage, Snapshot } from '#protocol';
import type { Channel } from '../channel.js';
import type { Client, ClientOptions } from '../client.js';
import { FlagcastError } from '../flagcast-error.js';
import type { WebSocketClass } from '../line.js';
import { createFollower, type Unsent } from './follower.js';
import { createLeader, type Leader } from './leader.js';
import { join, type Membership, type TabParts } from './membership.js';
import { isSameChannel, type TabChannel, type TabMessage } from './messages.js';
import { createNetwork, type Network, unavailable } from './network.js';
import { type ChannelRecord, createRecord } from './record.js';

type Page = Partial<Pick<Window, 'addEventListener' | 'document' | 'location'>>;

/** Stands for a token where the leader's is used. It never leaves the tab. */
const noToken = 'none';

/**
 * A client whose connection is the leading tab's. It is a whole client with a store of its own; what differs
 * is what it is given for a network: the leader's tab where another one leads, and the server where this one
 * does. To another leader it is a lost connection, which it comes back from by its newest cursor.
 */
export function shareClient(
  keyOf: (base: string) => string,
  parts: TabParts,
  options: ClientOptions,
  connect: (options: ClientOptions) => Client,
): Client {
  const { addEventListener, document, location } = globalThis as unknown as Page;
  // oxlint-disable-next-line no-console -- the place where a page's developer looks
  const report = options.onError ?? console.error;
  /** Of the channels that are open in this tab, its own and those that it opens for other tabs. */
  const records = new Set<ChannelRecord>();
  const page = new AbortController();
  let membership: Membership | null = null;
  let joined = false;
  let asleep = false;
  let leading: { readonly leader: Leader; readonly network: Network; token: string | null } | null = null;
  let asked = 0;
  let waiting: (() => void)[] = [];

  /** Resolves when the tab has another role, or another leader. */
  const turn = async (): Promise<void> => await new Promise((resolve) => waiting.push(resolve));
  const changed = (): void => {
    const woken = waiting;
    waiting = [];
    for (const wake of woken) wake();
  };
  const post = (message: Unsent<TabMessage>): void => {
    if (membership) membership.post({ ...message, from: membership.tab });
  };
  const tellWishes = (): void => {
    if (!joined || leading) return;
    const channels = [...records].map(({ channel, name }) => ({
      channel: name,
      filled: channel.toSnapshot() !== null,
    }));
    post({ type: 'wants', channels });
  };

  const follower = createFollower({
    post,
    recordOf: (channel) => findRecord(records, channel),
    followed: tellWishes,
    changed,
  });

  const getToken = async (): Promise<string> => {
    asked += 1;
    const own = asked;
    while (!leading && !follower.isReady()) {
      await turn();
      // The client has given up this question meanwhile, and asks anew: one user is not to be asked twice.
      if (own !== asked) return await new Promise(() => undefined);
    }
    if (!leading) return noToken;
    const led = leading;
    const token = await options.getToken();
    led.token = token;
    changed();
    return token;
  };

  const fetchShared = async (address: string, init?: RequestInit): Promise<Response> => {
    const url = new URL(address);
    const signal = init?.signal ?? page.signal;
    const { searchParams: params } = url;
    const wanted = {
      projectId: params.get('project_id') ?? '',
      env: params.get('env') ?? '',
      environmentId: params.get('env_id'),
    };
    const isSnapshot = url.pathname.endsWith('/snapshot');
    // A channel that is being opened asks before it has its record.
    await Promise.resolve();
    const record =
      wanted.environmentId === null
        ? [...records]
            .reverse()
            .find(({ channel: { projectId, env } }) => projectId === wanted.projectId && env === wanted.env)
        : findRecord(records, wanted);
    const channel = record?.name ?? wanted;
    if (isSnapshot && record) record.asked += 1;
    // A tab that has just become the leader may still be asking for its first token.
    while (leading?.token === null) await turn();
    signal.throwIfAborted();
    if (!leading) {
      if (isSnapshot) return await follower.fetchSnapshot(channel, signal);
      throw new FlagcastError('unavailable', 'Another tab has the connection.', unavailable.code);
    }
    // A tab that opens a channel for another tab knows its id from that tab. The key may have changed since.
    if (channel.environmentId !== null) {
      params.delete('env');
      params.set('env_id', channel.environmentId);
    }
    const { leader, network, token } = leading;
    if (isSnapshot && record?.isBlank()) {
      const lent = await leader.borrow(channel);
      if (lent) return new Response(JSON.stringify(lent));
    }
    const headers = new Headers(init?.headers);
    headers.set('Authorization', `Bearer ${token}`);
    return await network.fetch(url.href, { ...init, headers });
  };

  const SharedSocket = function (url: string, protocols: string[]) {
    // What was asked for before this tab led came without a token.
    return leading && leading.token !== null && protocols.includes(`bearer.${leading.token}`)
      ? leading.network.openSocket(url, protocols)
      : follower.openSocket();
  } as unknown as WebSocketClass;

  const client = connect({
    ...options,
    shareTabs: undefined,
    getToken,
    fetch: fetchShared as typeof fetch,
    WebSocket: SharedSocket,
  });
  const key = keyOf(new URL(options.url.replace(/\/*$/, '/'), location?.href).href);

  const elected = (): void => {
    const network = createNetwork(
      options.WebSocket ?? globalThis.WebSocket,
      options.fetch ?? globalThis.fetch.bind(globalThis),
    );
    const leader = createLeader({
      post,
      watch: (tab, gone) => membership?.watch(tab, gone),
      openChannel,
      records,
    });
    follower.reset();
    leading = { leader, network, token: null };
    leader.setConnected(false, null);
    changed();
  };

  /** The next tab leads: once the server has seen this one's connection end, if there is time for that. */
  const leave = (inHaste: boolean): void => {
    if (!membership) return;
    const left = membership;
    const led = leading;
    tellNoWishes();
    membership = leading = null;
    joined = false;
    const dropped = led?.network.drop() ?? Promise.resolve();
    led?.leader.close();
    follower.reset();
    left.leave(inHaste ? Promise.resolve() : dropped);
    changed();
  };
  const tellNoWishes = (): void => {
    if (joined && !leading) post({ type: 'wants', channels: [] });
  };

  const wishesChanged = (): void => {
    if (records.size === 0) leave(false);
    else if (membership) tellWishes();
    else if (!asleep) {
      membership = join(key, parts, {
        joined() {
          joined = true;
          tellWishes();
        },
        elected,
        receive(message) {
          if ('to' in message && message.to !== membership?.tab) return;
          if (isOfFollower(message)) leading?.leader.receive(message);
          else if (!leading) follower.receive(message);
        },
        report,
      });
    }
  };

  const openChannel = ({ projectId, env, environmentId }: TabChannel): Channel => {
    const channel = client.channel({ projectId, env });
    if ([...records].some((record) => record.channel === channel)) return channel;
    const record = createRecord(channel, environmentId);
    records.add(record);
    const look = (): void => {
      const { status } = channel.getState();
      if (status.state !== 'closed') return;
      stop();
      records.delete(record);
      // When the whole connection was refused, the next tab leads, and gets the server's answer to its own token.
      if (status.error && client.getStatus().state !== 'closed') {
        leading?.leader.refused(record.name, status.error);
      }
      wishesChanged();
    };
    const stop = channel.subscribe(look);
    look();
    wishesChanged();
    return channel;
  };

  client.onMessage((message) => {
    note(records, message);
    leading?.leader.heard(message);
    // The other tabs know the channel by what has changed.
    if ('features' in message || message.type === 'channel_changed') tellWishes();
  });
  client.subscribe(() => {
    const status = client.getStatus();
    const stale = status.state === 'stale' && status.reason !== 'disconnected' ? status : null;
    const isConnected = status.state === 'live' || stale !== null;
    if (!isConnected) for (const record of records) record.live = false;
    leading?.leader.setConnected(isConnected, stale);
    if (status.state !== 'closed') return;
    page.abort();
    leave(false);
  });

  // A page that is frozen or kept in the back-forward cache cannot lead, and must not keep others from it.
  const sleep = (): void => {
    asleep = true;
    leave(true);
  };
  const wake = (): void => {
    if (!asleep) return;
    asleep = false;
    wishesChanged();
  };
  const { signal } = page;
  addEventListener?.('pagehide', sleep, { signal });
  addEventListener?.('pageshow', wake, { signal });
  document?.addEventListener('freeze', sleep, { signal });
  document?.addEventListener('resume', wake, { signal });

  return { ...client, channel: (name) => openChannel({ ...name, environmentId: null }) };
}

function findRecord(records: ReadonlySet<ChannelRecord>, channel: TabChannel): ChannelRecord | undefined {
  return [...records].find(({ name }) => isSameChannel(name, channel));
}

/** Keeps a message in the record of its channel. */
function note(records: ReadonlySet<ChannelRecord>, message: ServerMessage | Snapshot): void {
  for (const record of records) {
    if ('features' in message) {
      const { project_id: projectId, environment: env, environment_id: environmentId } = message;
      const name = { projectId, env, environmentId };
      if (!isSameChannel(record.name, name)) continue;
      record.name = name;
      record.hasState = message.embedded_state;
      record.loaded = record.asked;
      const cursor = record.channel.toSnapshot()?.cursor ?? message.cursor;
      // It has taken over the state of another channel of the same environment, if there is one.
      const other = [...records].find(
        (each) => each !== record && isSameChannel(each.name, name) && each.cursors()[0] === cursor,
      );
      if (other) record.copy(other);
      else record.mark(cursor);
      continue;
    }
    const isAbout = 'environment_id' in message;
    const { projectId, environmentId } = record.name;
    if (isAbout && (message.project_id !== projectId || message.environment_id !== environmentId)) continue;
    if ('source' in message) {
      record.add(message);
      // The channel fetches a snapshot in this case.
      if (!('feature' in message || message.feature_unreadable) && record.hasState) {
        record.needed = record.asked + 1;
      }
    } else if (message.type === 'channel_changed') {
      record.name = { ...record.name, env: message.environment };
    } else if (message.type === 'caught_up') {
      record.name = { ...record.name, env: message.environment };
      record.mark(message.cursor);
      record.live = true;
    } else if (message.type === 'heartbeat') {
      if (record.live) record.mark(message.cursor);
    } else if (
      message.type === 'resync' ||
      message.type === 'unsubscribed' ||
      (message.type === 'error' && isAbout)
    ) {
      record.live = false;
      if (message.type === 'resync') record.clear();
    }
  }
}

function isOfFollower(
  message: TabMessage,
): message is Extract<TabMessage, { type: 'wants' | 'snapshot' | 'subscribe' | 'ping' | 'lent' }> {
  return ['wants', 'snapshot', 'subscribe', 'ping', 'lent'].includes(message.type);
}
