import { createClient } from '@flagcast/client';
import { WebSocket } from 'ws';
import { openSegment, receive } from '../segment.js';
import { BaseClient } from './base-client.js';

/** @import { Channel, Client, WebSocketClass } from '@flagcast/client' */
/** @import { EventMessage } from '@flagcast/protocol' */
/** @import { Segment } from '../segment.js' */
/** @import { ChaosChannel } from '../writers.js' */
/** @import { ChannelContents } from '../history.js' */
/** @import { ChaosClient, ClientOptions } from './base-client.js' */

/** Interval at which the client reopens closed channels, in milliseconds. */
const retryIntervalMs = 1_000;

/**
 * The client may load snapshots on its own for this long after an event without the state of its feature, in
 * milliseconds: it loads another one for each such event received meanwhile, and retries with backoff.
 */
const statelessMs = 60_000;

/**
 * `expectedSnapshots`: snapshots that the server asked for, or the first one. `statelessAtMs`: time of the last event
 * without the state of its feature, for example from a server that could not read the features; the client then loads a
 * snapshot on its own.
 *
 * @typedef {{
 *   readonly name: ChaosChannel,
 *   channel: Channel | null,
 *   segment: Segment | null,
 *   expectedSnapshots: number,
 *   statelessAtMs: number,
 * }} ChannelState
 */

/** Simulates a network that blocks WebSockets. */
function NoWebSocket() {
  throw new Error('WebSockets are blocked');
}

/**
 * The client library in Node with several channels, over a WebSocket or over streams. After a right was revoked it
 * retries until the right is restored.
 *
 * @implements {ChaosClient}
 */
export class LibraryClient extends BaseClient {
  /** Snapshots that were neither the first of a channel nor requested by the server. */
  unexpectedSnapshots = 0;
  resyncs = 0;
  /** @type {(event: EventMessage) => void} called with each event */
  onEvent = () => undefined;
  /** @type {ChannelState[]} */
  #states;
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
    this.#states = channels.map((name) => ({
      ...{ name, channel: null, segment: null },
      ...{ expectedSnapshots: 0, statelessAtMs: -Infinity },
    }));
    this.#client = this.#connect();
    this.#ticker = setInterval(() => this.#reopenClosed(), retryIntervalMs);
  }

  /**
   * @param {ChaosChannel} wanted
   * @returns {ChannelContents | null}
   */
  contents(wanted) {
    const state = this.#states.find(({ name }) => name === wanted);
    const snapshot = state?.channel?.toSnapshot();
    if (!snapshot) return null;
    return {
      features: [...snapshot.features]
        .sort((one, other) => (one.id < other.id ? -1 : 1))
        .map(({ id, enabled, default_value }) => ({ id, enabled, default_value })),
      pending: snapshot.pending_changes.map(({ id }) => id).sort(),
    };
  }

  close() {
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
      // Errors that the client retries are expected under faults.
      onError: () => undefined,
    });
    client.onMessage((message) => {
      if (!('environment_id' in message)) return;
      const state = this.#states.find(({ name }) => name.environmentId === message.environment_id);
      if (state === undefined) return;
      if ('source' in message) {
        if (!('feature' in message) && message.feature_unreadable !== true) {
          state.statelessAtMs = Date.now();
          this.clientLog.note(`an event without state in ${state.name.env}`);
        }
        return;
      }
      if ('features' in message) this.#openSegment(state);
      else if (message.type === 'resync') {
        this.clientLog.note(`resync of ${state.name.env}: ${message.reason}`);
        this.resyncs += 1;
        state.expectedSnapshots += 1;
        this.#closeSegment(state);
      }
    });
    client.subscribe(() => {
      const status = client.getStatus();
      this.clientLog.note(
        `the connection is ${status.state}${status.state === 'stale' ? `: ${status.reason}` : ''}`,
      );
    });
    for (const state of this.#states) this.#openChannel(client, state);
    return client;
  }

  /**
   * @param {Client} client
   * @param {ChannelState} state
   */
  #openChannel(client, state) {
    const channel = client.channel({ projectId: state.name.projectId, env: state.name.env });
    state.channel = channel;
    state.expectedSnapshots = 1;
    channel.onEvent((event) => {
      this.onEvent(event);
      if (state.segment !== null && state.channel === channel) receive(state.segment, event.id);
    });
  }

  /** @param {ChannelState} state whose snapshot was received */
  #openSegment(state) {
    state.expectedSnapshots -= 1;
    if (state.expectedSnapshots < 0) {
      state.expectedSnapshots = 0;
      if (Date.now() - state.statelessAtMs < statelessMs) return;
      this.unexpectedSnapshots += 1;
      this.clientLog.note('loaded an unexpected snapshot');
      this.clientLog.violations.push('it loaded an unexpected snapshot');
    }
    this.#closeSegment(state);
    const { name, userId } = this.options;
    state.segment = openSegment({ client: name, userId, channel: state.name, keyedBy: 'id' });
    this.segments.push(state.segment);
  }

  /** @param {ChannelState} state */
  #closeSegment(state) {
    if (state.segment !== null) state.segment.untilMs = Date.now();
    state.segment = null;
  }

  #reopenClosed() {
    const status = this.#client.getStatus();
    if (status.state === 'closed') {
      this.#recordError(status.error);
      for (const state of this.#states) this.#closeSegment(state);
      this.#client.close();
      this.#client = this.#connect();
      return;
    }
    for (const state of this.#states) {
      const channelStatus = state.channel?.getState().status;
      if (channelStatus?.state !== 'closed') continue;
      this.#recordError(channelStatus.error, state.name);
      this.#closeSegment(state);
      this.#openChannel(this.#client, state);
    }
  }

  /**
   * @param {{ readonly code: string, readonly closeCode?: number | undefined } | null} error
   * @param {ChaosChannel} [channel]
   */
  #recordError(error, channel) {
    this.clientLog.rejected(error?.closeCode ?? 0, error?.code ?? '', channel);
  }
}
