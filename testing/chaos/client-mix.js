import { LibraryClient } from './clients/library-client.js';
import { PlainClient } from './clients/plain-client.js';
import { StreamClient } from './clients/stream-client.js';

/** @import { Random } from '../../packages/demo/dist/company/random.js' */
/** @import { ChaosClient, ClientOptions } from './clients/base-client.js' */
/** @import { ChaosChannel } from './writers.js' */
/** @import { ServerProcess } from './server-process.js' */
/** @import { Tokens, Viewer } from './tokens.js' */

/** @typedef {{ readonly kind: string, readonly client: ChaosClient, readonly viaProxy: boolean }} MixMember */

/** Percentage of the clients of each kind. */
const shares = /** @type {const} */ ({
  'library, WebSocket': 44,
  'library, streams': 10,
  plain: 20,
  'server-sent events': 11,
  'slow, plain': 4,
  'slow, server-sent events': 4,
  'pausing, plain': 3,
  'pausing, server-sent events': 4,
});

/** @typedef {keyof typeof shares} ClientKind */

/** Share of the clients that connect through the faulty proxy; the others connect to a server directly. */
const proxiedShare = 0.7;

/** The channel of imports has few clients: each receives hundreds of thousands of events. */
const importKinds = /** @type {const} */ ([
  'library, WebSocket',
  'plain',
  'server-sent events',
  'pausing, plain',
]);

/**
 * Opens `count` clients of all kinds over all channels, and a few clients of the channel of imports.
 *
 * @param {{
 *   readonly count: number,
 *   readonly channels: readonly ChaosChannel[],
 *   readonly importChannel: ChaosChannel,
 *   readonly viewers: readonly Viewer[],
 *   readonly servers: readonly ServerProcess[],
 *   readonly proxyUrl: string,
 *   readonly tokens: Tokens,
 *   readonly random: Random,
 * }} of
 * @returns {MixMember[]}
 */
export function openClientMix({
  count,
  channels,
  importChannel,
  viewers,
  servers,
  proxyUrl,
  tokens,
  random,
}) {
  const kinds = kindsOf(count);
  return [...kinds, ...importKinds].map((kind, index) => {
    const subscribed = index < kinds.length ? channels : [importChannel];
    const viaProxy = random.chance(proxiedShare);
    const server = random.pick(servers);
    const viewer = viewers[index % viewers.length] ?? random.pick(viewers);
    /** @type {ClientOptions} */
    const options = {
      name: `${kind} ${index}`,
      baseUrl: viaProxy ? proxyUrl : server.url,
      userId: viewer.id,
      getToken: async () => await tokens.issue(viewer),
      chance: () => random.next(),
    };
    return { kind, viaProxy, client: open(kind, options, subscribed, index) };
  });
}

/**
 * @param {ClientKind} kind
 * @param {ClientOptions} options
 * @param {readonly ChaosChannel[]} channels
 * @param {number} index
 * @returns {ChaosClient}
 */
function open(kind, options, channels, index) {
  const [first, second, third] = [0, 2, 3].map((step) => channels[(index + step) % channels.length]);
  if (first === undefined || second === undefined || third === undefined) throw new Error('no channels');
  switch (kind) {
    case 'library, WebSocket':
      return new LibraryClient(options, [...new Set([first, second, third])], false);
    case 'library, streams':
      return new LibraryClient(options, [...new Set([first, second])], true);
    case 'plain':
      return new PlainClient(options, first, 'steady');
    case 'slow, plain':
      return new PlainClient(options, first, 'slow');
    case 'pausing, plain':
      return new PlainClient(options, first, 'pausing');
    case 'server-sent events':
      return new StreamClient(options, first, 'steady');
    case 'slow, server-sent events':
      return new StreamClient(options, first, 'slow');
    case 'pausing, server-sent events':
      return new StreamClient(options, first, 'pausing');
  }
}

/**
 * Returns at least one client of each kind, the others by their percentages.
 *
 * @param {number} count
 * @returns {ClientKind[]}
 */
function kindsOf(count) {
  const names = /** @type {ClientKind[]} */ (Object.keys(shares));
  const kinds = names.flatMap((kind) =>
    Array.from({ length: Math.max(1, Math.floor((count * shares[kind]) / 100)) }, () => kind),
  );
  while (kinds.length < count) kinds.push('library, WebSocket');
  return kinds;
}
