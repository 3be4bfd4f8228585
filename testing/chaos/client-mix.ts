import type { TestChannel, TestFeed } from '../testkit/channel.ts';
import { LibraryClient } from '../testkit/clients/library-client.ts';
import {
  type ReadRate,
  ReconnectingPlainClient,
  ReconnectingStreamClient,
  ReconnectingV1Client,
} from '../testkit/clients/reconnecting-client.ts';
import type { RecordingClient, RecordingClientOptions } from '../testkit/clients/recording-client.ts';
import type { SeededRandom } from '../testkit/random.ts';
import type { TestUser } from '../testkit/tokens.ts';
import type { ChaosSystem } from './fault.ts';
import { PresenceGroup, subjectOf } from './presence.ts';

type Open = (options: RecordingClientOptions, channels: readonly TestChannel[]) => RecordingClient;

/** A client of one channel without the library. */
const reconnecting =
  (Kind: typeof ReconnectingPlainClient | typeof ReconnectingV1Client | typeof ReconnectingStreamClient) =>
  (rate: ReadRate): Open =>
  (options, [channel]) =>
    new Kind(options, some(channel), rate);
const plain = reconnecting(ReconnectingPlainClient);
const v1 = reconnecting(ReconnectingV1Client);
const stream = reconnecting(ReconnectingStreamClient);

/** The kinds of clients, with their percentages. A client gets three channels, and takes as many as it can. */
const kinds = {
  'library, WebSocket': {
    percent: 38,
    open: (options, channels) => new LibraryClient(options, channels, false),
  },
  'library, streams': {
    percent: 10,
    open: (options, channels) => new LibraryClient(options, channels, true),
  },
  plain: { percent: 20, open: plain('steady') },
  'flagcast.v1': { percent: 6, open: v1('steady') },
  'server-sent events': { percent: 11, open: stream('steady') },
  'slow, plain': { percent: 4, open: plain('slow') },
  'slow, server-sent events': { percent: 4, open: stream('slow') },
  'pausing, plain': { percent: 3, open: plain('pausing') },
  'pausing, server-sent events': { percent: 4, open: stream('pausing') },
} satisfies Record<string, { readonly percent: number; readonly open: Open }>;

type ClientKind = keyof typeof kinds;

/** The kinds of clients of the approvals feed. */
const feedKinds = {
  'approvals, library, WebSocket': (options, feeds) => new LibraryClient(options, feeds, false),
  'approvals, library, streams': (options, feeds) => new LibraryClient(options, feeds, true),
  'approvals, WebSocket': v1('steady'),
  'approvals, server-sent events': stream('steady'),
  'approvals, slow WebSocket': v1('slow'),
} satisfies Record<string, Open>;

/** Share of the clients that connect through the faulty proxy; the others connect to a server directly. */
const proxiedShare = 0.7;

/** The channel of imports has few clients: each receives hundreds of thousands of events. */
const importKinds = ['library, WebSocket', 'plain', 'server-sent events', 'pausing, plain'] as const;

interface ClientMixOptions {
  readonly count: number;
  /** Users with their approvals feeds: each kind of client opens all of them. */
  readonly feeds: readonly (readonly [TestUser, TestFeed])[];
  readonly random: SeededRandom;
}

type OptionsOf = (kind: string, index: number, user: TestUser) => RecordingClientOptions;

function optionsIn({ servers, proxy, tokens }: ChaosSystem, random: SeededRandom): OptionsOf {
  return (kind, index, user) => ({
    kind,
    index,
    baseUrl: random.chance(proxiedShare) ? proxy.url : random.pick(servers).url,
    userId: user.id,
    getToken: async () => await tokens.issue(user),
    chance: () => random.next(),
  });
}

/** Opens `count` clients of all kinds over all channels, a few clients of the channel of imports, and those of the feeds. */
export function openClientMix(
  system: ChaosSystem,
  { count, feeds, random }: ClientMixOptions,
): RecordingClient[] {
  const { channels, importChannel, viewers } = system;
  const optionsOf = optionsIn(system, random);
  const mix = kindsOf(count);
  const ofChannels = [...mix, ...importKinds].map((kind, index) => {
    const viewer = some(viewers[index % viewers.length]);
    const subscribed =
      index < mix.length
        ? [0, 2, 3].map((step) => some(channels[(index + step) % channels.length]))
        : [importChannel];
    return kinds[kind].open(optionsOf(kind, index, viewer), [...new Set(subscribed)]);
  });
  const ofFeeds = Object.entries<Open>(feedKinds).flatMap(([kind, open]) =>
    feeds.map(([user, feed], index) => open(optionsOf(kind, index, user), [feed])),
  );
  return [...ofChannels, ...ofFeeds];
}

/**
 * Opens clients that announce views: of a feature in a channel of each project, and of a request, which some have open in the
 * approvals feed. Each group has an outsider; two of its clients are of one user.
 */
export function openPresence(
  system: ChaosSystem,
  { feeds, random }: Pick<ClientMixOptions, 'feeds' | 'random'>,
): PresenceGroup[] {
  const { projects, viewers, approvers, revocations } = system;
  const optionsOf = optionsIn(system, random);
  const [one, other] = projects.map(([channel]) => some(channel));
  const groups = [
    { kind: 'featureId', channel: some(one), elsewhere: some(other), feedUsers: [] },
    { kind: 'featureId', channel: some(other), elsewhere: some(one), feedUsers: [] },
    { kind: 'pendingChangeId', channel: some(one), elsewhere: some(other), feedUsers: feeds.slice(0, 3) },
  ] as const;
  let index = 0;
  const open = (user: TestUser, channel: TestChannel, kind = 'presence') =>
    new LibraryClient(optionsOf(kind, (index += 1), user), [channel], false);
  return groups.map(({ kind, channel, elsewhere, feedUsers }, group) => {
    const member = (step: number): TestUser => some(viewers[(group * 4 + step) % viewers.length]);
    const outsider = some(approvers.find(({ projectId }) => projectId === elsewhere.projectId));
    const members = [
      ...[0, 0, 1, 2, 3].map((step) => open(member(step), channel)),
      ...feedUsers.map(([user, feed]) => open(user, { ...feed }, 'presence, approvals')),
    ];
    return new PresenceGroup({
      subject: subjectOf(channel, kind),
      members,
      outsider: open(outsider, elsewhere),
      ...{ revocations, random },
      relayBackAtMs: system.nats === null ? undefined : () => system.natsBackAtMs,
    });
  });
}

/** Opens a client of each implementation. */
export function openOneOfEach(
  options: Omit<RecordingClientOptions, 'kind' | 'index'>,
  channel: TestChannel,
): RecordingClient[] {
  const implementations = ['library, WebSocket', 'plain', 'flagcast.v1', 'server-sent events'] as const;
  return implementations.map((kind, index) =>
    kinds[kind].open({ ...options, kind: `${kind}, of ${channel.env}`, index }, [channel]),
  );
}

/** Returns at least one client of each kind, the others by their percentages. */
function kindsOf(count: number): ClientKind[] {
  const mix = (Object.keys(kinds) as ClientKind[]).flatMap((kind) =>
    Array.from({ length: Math.max(1, Math.floor((count * kinds[kind].percent) / 100)) }, () => kind),
  );
  while (mix.length < count) mix.push('library, WebSocket');
  return mix;
}

function some<Item>(item: Item | undefined): Item {
  if (item === undefined) throw new Error('There are no channels or users');
  return item;
}
