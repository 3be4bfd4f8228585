import type { ServerMessage, Snapshot } from '#protocol';
import type { Channel } from '../channel.js';
import type { Client, ClientOptions } from '../client.js';
import { FlagcastError } from '../flagcast-error.js';
import type { WebSocketClass } from '../line.js';
import { channelKey } from '../request.js';
import { createFollower, type Unsent } from './follower.js';
import { createLeader, type Leader } from './leader.js';
import { join, type Membership, type TabParts } from './membership.js';
import type { TabMessage } from './messages.js';
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
  /** The channels that are open in this tab, its own and those that it opens for others. */
  const wanted = new Map<string, Channel>();
  const records = new Map<string, ChannelRecord>();
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
    const channels = [...wanted.values()].map(({ projectId, env, toSnapshot }) => ({
      channel: { projectId, env },
      filled: toSnapshot() !== null,
    }));
    post({ type: 'wants', channels });
  };

  const follower = createFollower({
    post,
    cursorsOf: (key) => records.get(key)?.cursors() ?? [],
    snapshotOf: (key) => wanted.get(key)?.toSnapshot() ?? null,
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
    const channel = {
      projectId: url.searchParams.get('project_id') ?? '',
      env: url.searchParams.get('env') ?? '',
    };
    const isSnapshot = url.pathname.endsWith('/snapshot');
    // A channel that is being opened asks before it has its record.
    await Promise.resolve();
    const record = records.get(channelKey(channel.projectId, channel.env));
    if (isSnapshot && record) record.asked += 1;
    // A tab that has just become the leader may still be asking for its first token.
    while (leading?.token === null) await turn();
    signal.throwIfAborted();
    if (!leading) {
      if (isSnapshot) return await follower.fetchSnapshot(channel, signal);
      throw new FlagcastError('unavailable', 'Another tab has the connection.', unavailable.code);
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
      recordOf: (name) => records.get(name),
    });
    follower.reset();
    leading = { leader, network, token: null };
    leader.setConnected(false);
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
    if (wanted.size === 0) leave(false);
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

  const openChannel: Client['channel'] = (name) => {
    const channel = client.channel(name);
    const nameKey = channelKey(name.projectId, name.env);
    if (wanted.get(nameKey) === channel) return channel;
    wanted.set(nameKey, channel);
    records.set(nameKey, createRecord());
    const look = (): void => {
      const { status } = channel.getState();
      if (status.state !== 'closed') return;
      stop();
      if (wanted.get(nameKey) !== channel) return;
      wanted.delete(nameKey);
      records.delete(nameKey);
      // When it is the whole connection that was refused, the next tab leads, and sees for itself.
      if (status.error && client.getStatus().state !== 'closed') leading?.leader.refused(name, status.error);
      wishesChanged();
    };
    const stop = channel.subscribe(look);
    look();
    wishesChanged();
    return channel;
  };

  client.onMessage((message) => {
    note(records, message, wanted);
    leading?.leader.heard(message);
  });
  client.subscribe(() => {
    const { state } = client.getStatus();
    if (state !== 'live') for (const record of records.values()) record.live = false;
    leading?.leader.setConnected(state === 'live');
    if (state !== 'closed') return;
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

  return { ...client, channel: openChannel };
}

/** Keeps what has been heard in the record of its channel. */
function note(
  records: ReadonlyMap<string, ChannelRecord>,
  message: ServerMessage | Snapshot,
  channels: ReadonlyMap<string, Channel>,
): void {
  const about =
    'environment' in message ? channelKey(message.project_id ?? '', message.environment ?? '') : null;
  for (const [key, record] of records) {
    if (about !== null && about !== key) continue;
    if ('features' in message) {
      record.loaded = record.asked;
      record.mark(channels.get(key)?.toSnapshot()?.cursor ?? message.cursor);
    } else if ('source' in message) {
      record.add(message);
      if (message.feature === undefined) record.needed = record.asked + 1;
    } else if (message.type === 'caught_up') {
      record.mark(message.cursor);
      record.live = true;
    } else if (message.type === 'heartbeat') {
      if (record.live) record.mark(message.cursor);
    } else if (about !== null && message.type !== 'hello') {
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
