import { once } from 'node:events';
import { json } from 'node:stream/consumers';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Duplex } from 'node:stream';
import type {
  ApprovalsSnapshot,
  ChannelName,
  ClientMessage,
  EventMessage,
  FeatureState,
  FreshnessReason,
  HelloMessage,
  PendingChange,
  ServerMessage,
  Snapshot,
  SubscriptionName,
} from '#protocol';
import { type WebSocket, WebSocketServer } from 'ws';

/** The initial ids of the environments, by key. */
const environmentIds: Readonly<Record<string, string>> = { prod: '7', stage: '8', dev: '9' };

function nameOf(environment: string): ChannelName {
  return { project_id: 'p1', environment, environment_id: environmentIds[environment] ?? '' };
}

export const channelName = nameOf('prod');
export const stageName = nameOf('stage');

export function feature(id: string, changes: Partial<FeatureState> = {}): FeatureState {
  return {
    id,
    key: `key-${id}`,
    name: `Feature ${id}`,
    description: null,
    kind: 'simple',
    rollout_key: null,
    enabled: false,
    default_value: '',
    created_at: '2026-01-01T00:00:00Z',
    updated_at: '2026-01-01T00:00:00Z',
    version: 'v1',
    ...changes,
  };
}

export function pendingChange(id: string, featureIds: string[]): PendingChange {
  return {
    id,
    project_id: channelName.project_id,
    environment_id: channelName.environment_id,
    environment: channelName.environment,
    status: 'pending',
    requested_by: 'ada',
    requested_by_id: '1',
    created_at: '2026-01-01T00:00:00Z',
    version: '1',
    reason: 'because',
    decided_by: null,
    decided_at: null,
    decision_reason: null,
    entities: featureIds.map((featureId) => ({
      entity: 'feature',
      entity_id: featureId,
      action: 'update',
      feature_id: featureId,
      feature_key: `key-${featureId}`,
      feature_name: `Feature ${featureId}`,
      feature_version: 'v1',
      diff: [{ field: 'enabled', old: 'false', new: 'true' }],
    })),
  };
}

/** Creates an event that updates the feature. If only `environment` is given, its id is that of `environmentIds`. */
export function event(id: string, featureId: string, changes: Partial<EventMessage> = {}): EventMessage {
  const now = new Date().toISOString();
  return {
    source: 'audit',
    type: 'feature_updated',
    timestamp: now,
    ...nameOf(changes.environment ?? channelName.environment),
    row_id: id,
    entity: 'feature',
    entity_id: featureId,
    action: 'updated',
    id,
    feature_id: featureId,
    pending_change_id: null,
    actor: 'ada',
    committed_at: now,
    seen_at: now,
    feature: feature(featureId, { enabled: true }),
    ...changes,
  };
}

/** Creates an event of an approval of one feature. */
export function step(
  id: string,
  changeId: string,
  action: 'pending' | 'updated' | 'approved' | 'rejected' | 'cancelled',
  ...featureIds: [string, ...string[]]
): EventMessage {
  const [featureId] = featureIds;
  return event(id, featureId, {
    source: 'pending',
    type: `pending_change_${action === 'pending' ? 'created' : action}`,
    action,
    pending_change_id: changeId,
    feature: feature(featureId),
    pending_change: {
      ...pendingChange(changeId, featureIds),
      status: action === 'updated' ? 'pending' : action,
    },
  });
}

/** A queue whose items can be awaited in order. */
class Queue<Item> {
  readonly all: Item[] = [];
  #taken = 0;
  #waiters: (() => void)[] = [];

  push(item: Item): void {
    this.all.push(item);
    const waiters = this.#waiters;
    this.#waiters = [];
    for (const resume of waiters) resume();
  }

  /** Returns the next item, and waits for it if necessary. */
  async next(): Promise<Item> {
    while (this.all.length <= this.#taken) await new Promise<void>((resolve) => this.#waiters.push(resolve));
    const item = this.all[this.#taken] as Item;
    this.#taken += 1;
    return item;
  }
}

/** The server's side of one WebSocket. */
export class ScriptedConnection {
  readonly socket: WebSocket;
  /** The token in the client's subprotocols. */
  readonly token: string;
  readonly received = new Queue<ClientMessage>();
  readonly closed: Promise<unknown>;

  constructor(socket: WebSocket, request: IncomingMessage) {
    this.socket = socket;
    this.token = /bearer\.([^,]+)/.exec(request.headers['sec-websocket-protocol'] ?? '')?.[1] ?? '';
    this.closed = once(socket, 'close');
    socket.on('message', (data: Buffer) =>
      this.received.push(JSON.parse(data.toString('utf8')) as ClientMessage),
    );
  }

  send(...messages: (ServerMessage | string)[]): void {
    for (const message of messages) {
      this.socket.send(typeof message === 'string' ? message : JSON.stringify(message));
    }
  }

  hello(changes: Partial<HelloMessage> = {}): void {
    this.send(hello(changes));
  }

  /** Sends hello, waits for a subscribe message, and sends the missed events. Returns the client's cursor. */
  async accept(cursor = 'c1', ...missed: EventMessage[]): Promise<string | undefined> {
    this.hello();
    const message = await this.received.next();
    if (message.type !== 'subscribe') throw new Error(`expected subscribe, received ${message.type}`);
    this.send(...missed, caughtUp(cursor));
    return message.cursor;
  }
}

export function hello(changes: Partial<HelloMessage> = {}): HelloMessage {
  return {
    type: 'hello',
    protocol: 'flagcast.v1',
    server: 'scripted',
    user_id: '1',
    username: 'ada',
    token_expires_at: new Date(Date.now() + 3_600_000).toISOString(),
    heartbeat_interval_ms: 13_500,
    max_channels: 32,
    guarantee: 'exact',
    guarantee_reason: 'event_log',
    overlap_ms: null,
    embedded_state: true,
    presence: true,
    ...changes,
  };
}

export function heartbeat(cursor: string, asOf: string | null = null): ServerMessage {
  return { type: 'heartbeat', cursor, timestamp: new Date().toISOString(), as_of: asOf };
}

export function stale(since: string, reason: FreshnessReason = 'read_overdue'): ServerMessage {
  return { type: 'freshness', state: 'stale', since, reason };
}

export const fresh: ServerMessage = { type: 'freshness', state: 'fresh' };

/** Creates the message that the environment of the channel has a new key. */
export function renamed(name: ChannelName, environment: string): ServerMessage {
  return { type: 'channel_changed', ...name, environment, previous_environment: name.environment };
}

/** Creates the message that the server has refused or ended a channel. */
export function refused(name: ChannelName, code: string, message = 'No.'): ServerMessage {
  const { project_id: projectId, environment_id: environmentId } = name;
  return { type: 'error', code, message, project_id: projectId, environment_id: environmentId };
}

export function caughtUp(cursor: string, name: SubscriptionName = channelName): ServerMessage {
  return { type: 'caught_up', ...name, cursor };
}

/** A stream of server-sent events that a client has opened. */
export interface ScriptedStream {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  /** What the client asked for. */
  readonly subscribe: readonly Readonly<Record<string, string>>[];
}

type RequestHandler = (response: ServerResponse, request: IncomingMessage) => void;

/** A real HTTP and WebSocket server on loopback whose responses are controlled by the test. */
export class ScriptedServer {
  readonly http = createServer((request, response) => void this.#respond(request, response));
  readonly connections = new Queue<ScriptedConnection>();
  /** The requests for snapshots, and the streams of server-sent events. */
  readonly snapshots = new Queue<IncomingMessage>();
  readonly streams = new Queue<ScriptedStream>();
  readonly upgrades = new Queue<IncomingMessage>();
  /** The current ids of the environments, by key. Snapshots contain them. */
  readonly environments = new Map(Object.entries(environmentIds));
  /** The response to all snapshot requests, with the name of the requested environment. */
  snapshot: Snapshot = {
    ...channelName,
    cursor: 'c0',
    embedded_state: true,
    features: [feature('f1')],
    pending_changes: [],
  };
  /** The response to snapshot requests of the approvals feed. */
  approvalsSnapshot: ApprovalsSnapshot = {
    feed: 'approvals',
    scope: 's1',
    cursor: 'c0',
    embedded_state: true,
    may_decide: ['p1'],
    pending_changes: [pendingChange('r1', ['f1'])],
  };
  /** Replaces the response to snapshot requests. */
  respondToSnapshot: RequestHandler | null = null;
  /** Replaces the response to stream requests. */
  respondToStream: RequestHandler | null = null;
  /** Replaces the WebSocket upgrade. */
  refuseUpgrade: ((socket: Duplex) => void) | null = null;
  readonly #sockets = new WebSocketServer({
    noServer: true,
    handleProtocols: (protocols) => (protocols.has('flagcast.v1') ? 'flagcast.v1' : false),
  });

  static async start(): Promise<ScriptedServer> {
    const server = new ScriptedServer();
    server.http.on('upgrade', (request, socket: Duplex, head) => {
      server.upgrades.push(request);
      if (server.refuseUpgrade) server.refuseUpgrade(socket);
      else {
        server.#sockets.handleUpgrade(request, socket, head, (webSocket) =>
          server.connections.push(new ScriptedConnection(webSocket, request)),
        );
      }
    });
    server.http.listen(0, '127.0.0.1');
    await once(server.http, 'listening');
    return server;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.http.address() as AddressInfo).port}`;
  }

  async #respond(request: IncomingMessage, response: ServerResponse): Promise<void> {
    if (request.url === '/api/events' && request.method === 'POST') {
      const { subscribe } = (await json(request)) as Pick<ScriptedStream, 'subscribe'>;
      this.streams.push({ request, response, subscribe });
      if (this.respondToStream) this.respondToStream(response, request);
      else response.writeHead(200, { 'Content-Type': 'text/event-stream' }).flushHeaders();
      return;
    }
    this.snapshots.push(request);
    if (this.respondToSnapshot) this.respondToSnapshot(response, request);
    else this.respondWithSnapshot(response, request);
  }

  /** Responds with the snapshot of the environment that is requested by key or id. */
  respondWithSnapshot(response: ServerResponse, request: IncomingMessage): void {
    const { searchParams: params } = new URL(request.url ?? '', this.url);
    if (params.has('feed')) {
      respondJson(response, 200, this.approvalsSnapshot);
      return;
    }
    const named = [...this.environments].find(
      ([key, id]) => key === params.get('env') || id === params.get('env_id'),
    );
    if (!named) {
      respondJson(response, 404, { code: 'unknown_environment', message: 'The environment does not exist' });
      return;
    }
    const [environment, environmentId] = named;
    respondJson(response, 200, { ...this.snapshot, environment, environment_id: environmentId });
  }

  close(): void {
    for (const connection of this.connections.all) connection.socket.terminate();
    this.http.closeAllConnections();
    this.http.close();
  }
}

export function respondJson(
  response: ServerResponse,
  status: number,
  body: unknown,
  headers: Record<string, string> = {},
): void {
  response.writeHead(status, { 'Content-Type': 'application/json', ...headers }).end(JSON.stringify(body));
}
