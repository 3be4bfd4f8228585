import type { PlainMessage } from './plain.js';

/** The subprotocol of the WebSocket. */
export const subprotocol = 'flagcast.v1';

/** How many channels one connection may have. */
export const maxChannels = 32;

/** A feature with its parameters in one environment: the element of a snapshot, and the state after an event. */
export interface FeatureState {
  id: string;
  key: string;
  name: string;
  description: string | null;
  /** `simple` or `multivariant`. */
  kind: string;
  rollout_key: string | null;
  enabled: boolean;
  default_value: string;
  /** RFC 3339, UTC. */
  created_at: string;
  /** RFC 3339, UTC: the later of the feature's and of its parameters'. */
  updated_at: string;
  /** Changes with every write to the feature or to its parameters in this environment; a write sends it back. */
  version: string;
}

/** A request for a change that waits for its decision. */
export interface PendingChange {
  id: string;
  requested_by: string;
  created_at: string;
  reason: string | null;
  /** As the database keeps it: `{entities: [{entity, entity_id, action, changes: {field: {old, new}}}], meta: {...}}`. JSON.parse rounds numbers that a double does not keep. */
  change: unknown;
  entities: { entity: string; entity_id: string; feature_id: string | null }[];
}

/** The answer of `GET /api/snapshot`: one channel at one moment. */
export interface Snapshot {
  project_id: string;
  environment: string;
  environment_id: string;
  /** Where the stream goes on. */
  cursor: string;
  /** Whether the server can read the state of features; false: both lists are empty. */
  embedded_state: boolean;
  features: FeatureState[];
  pending_changes: PendingChange[];
}

/** An event: the eight keys of the plain dialect and what flagcast.v1 adds. The only message with the key `source`. */
export interface EventMessage extends PlainMessage {
  /** The same event has the same id on every server and in every repetition; no other event ever gets it. */
  id: string;
  /** What the channel is routed by: unlike `environment`, it never changes. */
  environment_id: string;
  /** The id of the host's row: of `audit_log`, or of `pending_changes`. Not unique: a host may use it again. */
  row_id: string;
  feature_id: string | null;
  pending_change_id: string | null;
  actor: string | null;
  /** RFC 3339; null where the database does not record it. */
  committed_at: string | null;
  /** RFC 3339: when the server read it. */
  seen_at: string;
  /** The feature's state after the change; null when it is gone; absent where the server has no feature tables. */
  feature?: FeatureState | null;
  /** True where the feature's state could not be read (undecodable bytes, too large): `feature` is absent then. */
  feature_unreadable?: true;
  /** Only on the last event of a batch. */
  cursor?: string;
}

/** What names a channel in the server's control messages. */
export interface ChannelName {
  project_id: string;
  /** The environment's key. */
  environment: string;
  environment_id: string;
}

/** Why which guarantee holds. */
export const guaranteeReasons = ['event_log', 'tables', 'view'] as const;
export type GuaranteeReason = (typeof guaranteeReasons)[number];

export interface HelloMessage {
  type: 'hello';
  protocol: string;
  /** Names the server process. */
  server: string;
  user_id: string;
  username: string;
  token_expires_at: string;
  heartbeat_interval_ms: number;
  max_channels: number;
  guarantee: 'exact' | 'overlap';
  guarantee_reason: GuaranteeReason;
  /** With `overlap`: how long after its `timestamp` an event may be committed and is still found, in milliseconds; else null. */
  overlap_ms: number | null;
  embedded_state: boolean;
}

export interface CaughtUpMessage extends ChannelName {
  type: 'caught_up';
  cursor: string;
}

/** Why missed events cannot all be brought. */
export const resyncReasons = [
  'cursor_malformed',
  'cursor_expired',
  'too_many_missed',
  'history_changed',
  'cursor_ahead',
] as const;
export type ResyncReason = (typeof resyncReasons)[number];

export interface ResyncMessage extends ChannelName {
  type: 'resync';
  reason: ResyncReason;
}

export interface UnsubscribedMessage extends ChannelName {
  type: 'unsubscribed';
}

export interface HeartbeatMessage {
  type: 'heartbeat';
  /** Counts for every channel of the connection. */
  cursor: string;
  timestamp: string;
  /** RFC 3339: everything that was committed before this time has been read; null before the first read. */
  as_of: string | null;
}

/** Why a server is stale. */
export const freshnessReasons = [
  'database_unreachable',
  'read_failed',
  'read_overdue',
  'triggers_missing',
] as const;
export type FreshnessReason = (typeof freshnessReasons)[number];

/** Whether the server is reading the database right now. Sent when that changes, and after `hello` where it is stale. */
export type FreshnessMessage =
  | {
      type: 'freshness';
      state: 'stale';
      /** RFC 3339: everything that was committed before this time has been read. */
      since: string;
      reason: FreshnessReason;
    }
  | { type: 'freshness'; state: 'fresh' };

/** The environment of a subscribed channel has another key now. The channel goes on under its id. */
export interface ChannelChangedMessage extends ChannelName {
  type: 'channel_changed';
  /** The key before. */
  previous_environment: string;
}

export interface PongMessage {
  type: 'pong';
  /** Seconds since the epoch. */
  timestamp: number;
}

export interface AuthenticatedMessage {
  type: 'authenticated';
  token_expires_at: string;
}

/** The codes of `error` messages, beside those that a refused request has. */
export const errorCodes = [
  'bad_message',
  'already_subscribed',
  'not_subscribed',
  'too_many_channels',
  'unavailable',
  'environment_deleted',
  'project_archived',
  'project_deleted',
] as const;

export interface ErrorMessage {
  type: 'error';
  /** One of `errorCodes`, or the code of a refusal, e.g. `forbidden`. */
  code: string;
  message: string;
  /** Where the error is about a channel: the project, and the environment's key or id as the client sent it. */
  project_id?: string;
  environment?: string;
  /** Where the client named the environment by its id, or the channel was subscribed. */
  environment_id?: string;
}

/** Only over server-sent events: where a WebSocket would be closed with this code. */
export interface CloseMessage {
  type: 'close';
  code: number;
  reason: string;
}

export type ControlMessage =
  | HelloMessage
  | CaughtUpMessage
  | ResyncMessage
  | UnsubscribedMessage
  | HeartbeatMessage
  | FreshnessMessage
  | ChannelChangedMessage
  | PongMessage
  | AuthenticatedMessage
  | ErrorMessage
  | CloseMessage;

export type ServerMessage = EventMessage | ControlMessage;

export interface SubscribeMessage {
  type: 'subscribe';
  project_id: string;
  /** The environment's key; or `env_id`. */
  env?: string;
  env_id?: string | number;
  /** Where to go on from; without one the channel begins now. */
  cursor?: string;
}

export interface UnsubscribeMessage {
  type: 'unsubscribe';
  project_id: string;
  env?: string;
  env_id?: string | number;
}

export interface AuthMessage {
  type: 'auth';
  token: string;
}

export interface PingMessage {
  type: 'ping';
}

export type ClientMessage = SubscribeMessage | UnsubscribeMessage | AuthMessage | PingMessage;
