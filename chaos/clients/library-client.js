import { createClient } from '@flagcast/client';
import { WebSocket } from 'ws';
import { openSegment, receive } from '../segment.js';
import { DiaryClient } from './client.js';

/** @import { Channel, Client, WebSocketClass } from '@flagcast/client' */
/** @import { EventMessage } from '@flagcast/protocol' */
/** @import { Segment } from '../segment.js' */
/** @import { ChaosChannel } from '../writers.js' */
/** @import { ChannelContents } from '../ledger.js' */
/** @import { ChaosClient, ClientOptions } from './client.js' */

/** How often it looks whether it may see again what it was sent away from, in milliseconds. */
const retryIntervalMs = 1_000;

/**
 * How long after an event without the state of its feature the client may take snapshots by itself, in milliseconds:
 * it takes another one after each such event that comes while one is loaded, and tries again with backoff.
 */
const statelessMs = 60_000;

/**
 * `asked`: the snapshots that it has a reason for. `statelessAtMs`: when it last got an event without the state of its
 * feature, as from a server that started while it might not read features; then the client takes a snapshot by itself.
 *
 * @typedef {{
 *   readonly name: ChaosChannel,
 *   channel: Channel | null,
 *   segment: Segment | null,
 *   asked: number,
 *   statelessAtMs: number,
 * }} Watched
 */

/** What a network that breaks WebSockets comes to. */
function NoWebSocket() {
  throw new Error('There are no WebSockets here');
}

/**
 * The client library in Node, with a few channels: over a WebSocket, or over streams. When a right was taken
 * away it asks again until it is given back.
 *
 * @implements {ChaosClient}
 */
export class LibraryClient extends DiaryClient {
  /** Snapshots that were neither the first of a channel nor asked for by the server. */
  spareSnapshots = 0;
  resyncs = 0;
  /** @type {(event: EventMessage) => void} whom each event is told as it comes */
  onEvent = () => undefined;
  /** @type {Watched[]} */
  #watched;
  /** @type {Client} */
  #client;
  #ticker;
  #overStreams;

  /**
   * @param {ClientOptions} options
   * @param {readonly ChaosChannel[]} channels
   * @param {boolean} overStreams
   */
  constructor(options, channels, overStreams) {
    super(options);
    this.#overStreams = overStreams;
    this.channels = channels;
    this.#watched = channels.map((name) => ({
      ...{ name, channel: null, segment: null },
      ...{ asked: 0, statelessAtMs: -Infinity },
    }));
    this.#client = this.#connect();
    this.#ticker = setInterval(() => this.#lookAfter(), retryIntervalMs);
  }

  /**
   * @param {ChaosChannel} wanted
   * @returns {ChannelContents | null}
   */
  contents(wanted) {
    const watched = this.#watched.find(({ name }) => name === wanted);
    const snapshot = watched?.channel?.toSnapshot();
    if (!snapshot) return null;
    return {
      features: [...snapshot.features]
        .sort((one, other) => (one.id < other.id ? -1 : 1))
        .map(({ id, enabled, default_value }) => ({ id, enabled, default_value })),
      pending: snapshot.pending_changes.map(({ id }) => id).sort(),
    };
  }

  leave() {
    clearInterval(this.#ticker);
    this.#client.close();
  }

  #connect() {
    const { baseUrl, getToken } = this.options;
    const client = createClient({
      url: baseUrl,
      getToken,
      WebSocket: this.#overStreams
        ? /** @type {WebSocketClass} */ (/** @type {unknown} */ (NoWebSocket))
        : WebSocket,
      // What is being tried again is the weather's doing.
      onError: () => undefined,
    });
    client.onMessage((message) => {
      if (!('environment_id' in message)) return;
      const watched = this.#watched.find(({ name }) => name.environmentId === message.environment_id);
      if (watched === undefined) return;
      if ('source' in message) {
        if (!('feature' in message) && message.feature_unreadable !== true) {
          watched.statelessAtMs = Date.now();
          this.diary.note(`an event without state in ${watched.name.env}`);
        }
        return;
      }
      if ('features' in message) this.#begin(watched);
      else if (message.type === 'resync') {
        this.diary.note(`told to resync ${watched.name.env}: ${message.reason}`);
        this.resyncs += 1;
        watched.asked += 1;
        this.#end(watched);
      }
    });
    client.subscribe(() => {
      const status = client.getStatus();
      this.diary.note(
        `the connection is ${status.state}${status.state === 'stale' ? `: ${status.reason}` : ''}`,
      );
    });
    for (const watched of this.#watched) this.#watch(client, watched);
    return client;
  }

  /**
   * @param {Client} client
   * @param {Watched} watched
   */
  #watch(client, watched) {
    const channel = client.channel({ projectId: watched.name.projectId, env: watched.name.env });
    watched.channel = channel;
    watched.asked = 1;
    channel.onEvent((event) => {
      this.onEvent(event);
      if (watched.segment !== null && watched.channel === channel) receive(watched.segment, event.id);
    });
  }

  /** @param {Watched} watched whose snapshot has come */
  #begin(watched) {
    watched.asked -= 1;
    if (watched.asked < 0) {
      watched.asked = 0;
      if (Date.now() - watched.statelessAtMs < statelessMs) return;
      this.spareSnapshots += 1;
      this.diary.note('took a snapshot without a reason');
      this.diary.wrongs.push('it took a snapshot without a reason');
    }
    this.#end(watched);
    const { name, userId } = this.options;
    watched.segment = openSegment({ client: name, userId, channel: watched.name, named: 'id' });
    this.segments.push(watched.segment);
  }

  /** @param {Watched} watched */
  #end(watched) {
    if (watched.segment !== null) watched.segment.untilMs = Date.now();
    watched.segment = null;
  }

  #lookAfter() {
    const status = this.#client.getStatus();
    if (status.state === 'closed') {
      this.#tellError(status.error);
      for (const watched of this.#watched) this.#end(watched);
      this.#client.close();
      this.#client = this.#connect();
      return;
    }
    for (const watched of this.#watched) {
      const state = watched.channel?.getState().status;
      if (state?.state !== 'closed') continue;
      this.#tellError(state.error, watched.name);
      this.#end(watched);
      this.#watch(this.#client, watched);
    }
  }

  /**
   * @param {{ readonly code: string, readonly closeCode?: number | undefined } | null} error
   * @param {ChaosChannel} [channel]
   */
  #tellError(error, channel) {
    this.diary.sentAway(error?.closeCode ?? 0, error?.code ?? '', channel);
  }
}
