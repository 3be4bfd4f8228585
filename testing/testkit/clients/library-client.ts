import { setTimeout as delay } from 'node:timers/promises';
import { type Channel, type Client, createClient, type WebSocketClass } from '@flagcast/client';
import { type Approvals, approvals } from '@flagcast/client/approvals';
import type { ClientMessage } from '@flagcast/protocol';
import { WebSocket } from 'ws';
import { isFeed, type TestChannel } from '../channel.ts';
import { type ChannelContents, contentsOf } from '../contents.ts';
import { receive, type Segment } from '../segment.ts';
import { RecordingClient, type RecordingClientOptions } from './recording-client.ts';

/** Interval at which the client reopens closed channels, in milliseconds. */
const retryIntervalMs = 1_000;

/**
 * The client may load snapshots on its own for this long after an event without the state of its feature, in
 * milliseconds: it loads another one for each such event received meanwhile, and retries with backoff.
 */
const statelessMs = 60_000;

/** How long the TCP connection of a silent WebSocket stays open, in milliseconds. */
const silentMs = 30_000;

interface ChannelState {
  readonly name: TestChannel;
  channel: Channel | Approvals | null;
  segment: Segment | null;
  /** Snapshots that the server asked for, or the first one. */
  expectedSnapshots: number;
  /**
   * Time of the last event without the state of its feature, for example from a server that could not read the features;
   * the client then loads a snapshot on its own.
   */
  statelessAtMs: number;
}

/** A WebSocket that can fall silent. */
class Line extends WebSocket {
  #isSilent = false;

  /** Neither sends nor receives anything any more. */
  silence(): void {
    this.#isSilent = true;
    this.pause();
    setTimeout(() => this.terminate(), silentMs).unref();
  }

  override send(data: string): void {
    if (!this.#isSilent) super.send(data);
  }

  override close(): void {
    if (!this.#isSilent) super.close();
  }
}

/** Simulates a network that blocks WebSockets. */
const NoWebSocket = function () {
  throw new Error('WebSockets are blocked');
} as unknown as WebSocketClass;

/**
 * The client library in Node with several channels or the approvals feed, over a WebSocket or over streams. After a right was revoked it
 * retries until the right is restored.
 */
export class LibraryClient extends RecordingClient {
  readonly #states: readonly ChannelState[];
  readonly #onClient: ((client: Client) => void)[] = [];
  #client: Client;
  #line: Line | null = null;
  #isAwayUntilMs = 0;
  readonly #ticker: NodeJS.Timeout;
  readonly #overStreams: boolean;

  constructor(options: RecordingClientOptions, channels: readonly TestChannel[], overStreams: boolean) {
    super(options, channels);
    this.#overStreams = overStreams;
    this.#states = channels.map((name) => ({
      ...{ name, channel: null, segment: null },
      ...{ expectedSnapshots: 0, statelessAtMs: -Infinity },
    }));
    this.#client = this.#connect();
    this.#ticker = setInterval(() => this.#reopenClosed(), retryIntervalMs);
  }

  override contents(wanted: TestChannel): ChannelContents | null {
    const snapshot = this.#states.find(({ name }) => name === wanted)?.channel?.toSnapshot();
    if (!snapshot) return null;
    const { pending_changes: requests } = snapshot;
    if (!('features' in snapshot)) return new Map(requests.map((each) => [each.id, contentsOf(each)]));
    return new Map([
      ...snapshot.features.map((each) => [each.id, `${each.enabled} ${each.default_value}`] as const),
      ...requests.map(({ id }) => [id, 'pending'] as const),
    ]);
  }

  close(): void {
    clearInterval(this.#ticker);
    this.#client.close();
  }

  /** Calls `use` with the client of the library, and with each that replaces it. */
  onClient(use: (client: Client) => void): void {
    this.#onClient.push(use);
    use(this.#client);
  }

  /**
   * Loses the WebSocket: the server gets no close frame, and if it happens silently, no FIN. For `awayMs` the client does not
   * reconnect.
   */
  breakLine({ isSilent, awayMs }: { readonly isSilent: boolean; readonly awayMs: number }): void {
    this.#isAwayUntilMs = Date.now() + awayMs;
    if (isSilent) this.#line?.silence();
    else this.#line?.terminate();
  }

  #connect(): Client {
    const { baseUrl, getToken } = this.options;
    const onLine = (line: Line): void => void (this.#line = line);
    const NewLine = class extends Line {
      constructor(url: string, protocols: string[]) {
        super(url, protocols);
        onLine(this);
      }
    };
    const client = createClient({
      url: baseUrl,
      getToken: async () => {
        await delay(Math.max(0, this.#isAwayUntilMs - Date.now()));
        return await getToken();
      },
      WebSocket: this.#overStreams ? NoWebSocket : NewLine,
      // Errors that the client retries are expected under faults.
      onError: () => undefined,
      debug: (verb, message) => {
        if (verb === 'sent') this.#noteSent(message as ClientMessage);
      },
    });
    client.onMessage((message) => {
      const state = this.#states.find(({ name }) =>
        'feed' in message || isFeed(name)
          ? 'feed' in message && isFeed(name)
          : 'environment_id' in message && name.environmentId === message.environment_id,
      );
      if (state === undefined) return;
      if ('source' in message) {
        const isComplete = isFeed(state.name)
          ? 'pending_change' in message || message.pending_change_unreadable === true
          : 'feature' in message || message.feature_unreadable === true;
        if (!isComplete) {
          state.statelessAtMs = Date.now();
          this.note(`an event without state in ${state.name.env}`);
        }
        return;
      }
      if ('cursor' in message) {
        const scope = 'scope' in message ? ` ${message.scope}` : '';
        this.noteCursor(`is given ${state.name.env}${scope}`, message.cursor);
      }
      if ('pending_changes' in message) this.#openSegment(state);
      else if (message.type === 'resync') {
        this.note(`resync of ${state.name.env}: ${message.reason}`);
        state.expectedSnapshots += 1;
        this.#closeSegment(state);
      }
    });
    client.subscribe(() => {
      const status = client.getStatus();
      this.note(`the connection is ${status.state}${status.state === 'stale' ? `: ${status.reason}` : ''}`);
    });
    for (const use of this.#onClient) use(client);
    for (const state of this.#states) this.#openChannel(client, state);
    return client;
  }

  #noteSent(message: ClientMessage): void {
    if (message.type !== 'subscribe') return;
    const { type, cursor, ...of } = message;
    this.noteCursor(`${type} ${Object.values(of).join(' ')}`, cursor);
  }

  #openChannel(client: Client, state: ChannelState): void {
    const channel = isFeed(state.name)
      ? approvals(client)
      : client.channel({ projectId: state.name.projectId, env: state.name.env });
    state.channel = channel;
    state.expectedSnapshots = 1;
    channel.onEvent((event) => {
      if (state.segment !== null && state.channel === channel) {
        receive(state.segment, event.id, isFeed(state.name) ? event : undefined);
      }
    });
  }

  /** The snapshot of a channel was received. */
  #openSegment(state: ChannelState): void {
    state.expectedSnapshots -= 1;
    if (state.expectedSnapshots < 0) {
      state.expectedSnapshots = 0;
      if (Date.now() - state.statelessAtMs < statelessMs) return;
      this.note('loaded an unexpected snapshot');
      this.violations.push('it loaded an unexpected snapshot');
    }
    this.#closeSegment(state);
    state.segment = this.openSegment(state.name, 'id');
  }

  #closeSegment(state: ChannelState): void {
    if (state.segment !== null) state.segment.untilMs = Date.now();
    state.segment = null;
  }

  #reopenClosed(): void {
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

  #recordError(
    error: { readonly code: string; readonly closeCode?: number | undefined } | null,
    channel?: TestChannel,
  ): void {
    this.rejected(error?.closeCode ?? 0, error?.code ?? '', channel);
  }
}
