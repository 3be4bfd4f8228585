import type { FeatureState, PendingChange } from './states.js';
import type { AnnounceMessage, PresenceMessage } from './presence.js';

/** The subprotocol of the WebSocket. */
export const subprotocol = 'flagcast.v1';

/** The maximum number of channels of one connection. */
export const maxChannels = 32;

/**
 * An event for plain clients: exactly these eight keys, so that every client written to the specification can read
 * it.
 */
export interface PlainMessage {
  /** `audit`: a change was made. `pending`: a step of an approval. */
  source: string;
  /** `<entity>_<action>`, e.g. `feature_updated`; for approvals `pending_change_created`, `..._updated`, `..._approved`, `..._rejected`, `..._cancelled`. */
  type: string;
  /** RFC 3339 in UTC, with up to microseconds. */
  timestamp: string;
  project_id: string;
  /** The environment's key, e.g. `prod`. */
  environment: string;
  entity: string;
  entity_id: string;
  /** `created`, `updated`, `deleted`; for approvals `pending`, `updated`, `approved`, `rejected`, `cancelled`. */
  action: string;
}

/** The response of `GET /api/snapshot`: the state of one channel at one moment. */
export interface Snapshot {
  project_id: string;
  environment: string;
  environment_id: string;
  /** The position at which the state is true. Subscribe from here. */
  cursor: string;
  /** Whether the server can read the state of features. If false, both lists are empty. */
  embedded_state: boolean;
  features: FeatureState[];
  pending_changes: PendingChange[];
}

/** The response of `GET /api/snapshot?feed=approvals`: the requests in all channels that the user may view. */
export interface ApprovalsSnapshot {
  feed: 'approvals';
  /** Identifies what the user may view. Send it back with the cursor. */
  scope: string;
  /** The position at which the requests are true. Subscribe from here. */
  cursor: string;
  /** Whether the server can read requests. If false, the list is empty. */
  embedded_state: boolean;
  /** The projects on whose requests the user may decide, except on own requests. */
  may_decide: string[];
  /** All open requests, and the newest 100 of the user's own that were decided. Oldest first. */
  pending_changes: PendingChange[];
}

/** An event of flagcast.v1: the eight keys of a plain event, and more. The only message with the key `source`. */
export interface EventMessage extends PlainMessage {
  /** Unique. An event has the same id on every server and every time that it is sent. */
  id: string;
  /** Identifies the channel. Unlike `environment`, it never changes. */
  environment_id: string;
  /** The id of the row in the host's table (`audit_log` or `pending_changes`). Not unique: the host may reuse it. */
  row_id: string;
  feature_id: string | null;
  pending_change_id: string | null;
  actor: string | null;
  /** RFC 3339; null if the database does not record it. */
  committed_at: string | null;
  /** RFC 3339: when the server read it. */
  seen_at: string;
  /** The feature's state after the change; null if it was deleted; absent if the server has no feature tables. */
  feature?: FeatureState | null;
  /** True if the feature's state could not be read (undecodable bytes, too large). `feature` is then absent. */
  feature_unreadable?: true;
  /** For steps of approvals: the request after the step; null if it was deleted or moved to another channel; absent like `feature`. */
  pending_change?: PendingChange | null;
  /** True if the request could not be read. `pending_change` is then absent; the snapshot has the request. */
  pending_change_unreadable?: true;
  /** Only in the approvals feed. A connection with the channel too receives the event twice, with the same `id`. */
  feed?: 'approvals';
  /** Only on the last event of a batch. */
  cursor?: string;
}

/** The channel that a control message of the server is about. */
export interface ChannelName {
  project_id: string;
  /** The environment's key. */
  environment: string;
  environment_id: string;
}

/** The feed that a control message of the server is about: the steps of approvals in all channels of the user. */
export interface FeedName {
  feed: 'approvals';
}

/** What a control message of the server is about. */
export type SubscriptionName = ChannelName | FeedName;

/** Why the server gives its guarantee. */
export const guaranteeReasons = ['event_log', 'tables', 'view'] as const;
/** What the server reads events from: the event log, the host's tables, or a view of the host. */
export type GuaranteeReason = (typeof guaranteeReasons)[number];

/** The first message of a connection: the user, and what the server guarantees. */
export interface HelloMessage {
  type: 'hello';
  protocol: string;
  /** The id of the server process. */
  server: string;
  user_id: string;
  username: string;
  /** RFC 3339: when the connection is closed with 4001, unless `auth` replaces the token. */
  token_expires_at: string;
  heartbeat_interval_ms: number;
  max_channels: number;
  /** `partial`: row-level security hides rows from the server. */
  guarantee: 'exact' | 'overlap' | 'partial';
  guarantee_reason: GuaranteeReason;
  /** Where events are found by time: how late after its `timestamp` an event can be committed without being missed, in milliseconds. Otherwise null. */
  overlap_ms: number | null;
  embedded_state: boolean;
  /** Whether the server takes `announce`. */
  presence: boolean;
}

/** The channel or feed is live: the response to a successful `subscribe`, after the missed events. */
export type CaughtUpMessage = SubscriptionName & {
  type: 'caught_up';
  cursor: string;
  /** Only of the feed: as in its snapshot. */
  scope?: string;
};

/** Why the server cannot send all missed events. */
export const resyncReasons = [
  'cursor_malformed',
  'cursor_expired',
  'too_many_missed',
  'history_changed',
  'cursor_ahead',
  'scope_changed',
] as const;
/** One of `resyncReasons`. */
export type ResyncReason = (typeof resyncReasons)[number];

/** Not all missed events can be sent, and the subscription has ended. Load a snapshot and subscribe from its cursor. */
export type ResyncMessage = SubscriptionName & {
  type: 'resync';
  reason: ResyncReason;
};

/** The response to `unsubscribe`. No event of the channel or feed follows. */
export type UnsubscribedMessage = SubscriptionName & {
  type: 'unsubscribed';
};

/** Sent every `heartbeat_interval_ms` while all channels of the connection are live. */
export interface HeartbeatMessage {
  type: 'heartbeat';
  /** Valid for every channel of the connection that is caught up. */
  cursor: string;
  /** RFC 3339: the time of the server. */
  timestamp: string;
  /** RFC 3339. Everything that was committed before this time has been read. null before the first read. */
  as_of: string | null;
}

/** Why a server is stale. */
export const freshnessReasons = [
  'database_unreachable',
  'read_failed',
  'read_overdue',
  'triggers_missing',
] as const;
/** One of `freshnessReasons`. */
export type FreshnessReason = (typeof freshnessReasons)[number];

/** Whether the server is reading the database. Sent when this changes, and after `hello` if the server is stale. */
export type FreshnessMessage =
  | {
      type: 'freshness';
      state: 'stale';
      /** RFC 3339. Everything that was committed before this time has been read. */
      since: string;
      reason: FreshnessReason;
    }
  | { type: 'freshness'; state: 'fresh' };

/** The environment of a subscribed channel has a new key. The channel continues under the same id. */
export interface ChannelChangedMessage extends ChannelName {
  type: 'channel_changed';
  /** The previous key. */
  previous_environment: string;
}

/** The response to `ping`. */
export interface PongMessage {
  type: 'pong';
  /** Seconds since the epoch. */
  timestamp: number;
}

/** The response to `auth`: the new token has replaced the previous one. */
export interface AuthenticatedMessage {
  type: 'authenticated';
  /** RFC 3339. */
  token_expires_at: string;
}

/** The codes of `error` messages, in addition to the codes of refused requests. */
export const errorCodes = [
  /** The message is not one that the protocol defines. */
  'bad_message',
  /** The connection is already subscribed to the channel. */
  'already_subscribed',
  /** The connection is not subscribed to the channel. */
  'not_subscribed',
  /** The connection is subscribed to `max_channels` channels. */
  'too_many_channels',
  /** The server cannot check the token or the permissions at the moment. */
  'unavailable',
  /** The connection has announced its maximum of 16 views. */
  'too_many_views',
  /** The subscription has ended, because the environment was deleted. */
  'environment_deleted',
  /** The subscription has ended, because the project was archived. */
  'project_archived',
  /** The subscription has ended, because the project was deleted. */
  'project_deleted',
] as const;
/** One of `errorCodes`. */
export type ErrorCode = (typeof errorCodes)[number];

/** A message of the client has failed, or a channel has ended. The connection stays open. */
export interface ErrorMessage {
  type: 'error';
  /** One of `errorCodes`, or the code of a refused request, e.g. `forbidden`. */
  code: string;
  message: string;
  /** If the error is about a channel: the project, and the environment's key or id as the client sent it. */
  project_id?: string;
  environment?: string;
  /** If the client sent the environment's id, or the channel was subscribed. */
  environment_id?: string;
  /** If the error is about the feed. */
  feed?: 'approvals';
}

/** Only in server-sent events. Corresponds to the close frame of a WebSocket. */
export interface CloseMessage {
  type: 'close';
  code: number;
  reason: string;
}

/** Every message of the server that is not an event. */
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
  | PresenceMessage
  | ErrorMessage
  | CloseMessage;

/** A discriminated union: `'source' in message` is an event, every other message has its own `type`. */
export type ServerMessage = EventMessage | ControlMessage;

/** Subscribes to a channel. The response is `caught_up`, `resync` or `error`. */
export interface SubscribeMessage {
  type: 'subscribe';
  project_id: string;
  /** The environment's key. Alternatively `env_id`. */
  env?: string;
  env_id?: string | number;
  /** The position to resume from. Without it, the channel starts at the present. */
  cursor?: string;
}

/** Ends the subscription to a channel, named by `env` or `env_id`. The response is `unsubscribed` or `error`. */
export interface UnsubscribeMessage {
  type: 'unsubscribe';
  project_id: string;
  env?: string;
  env_id?: string | number;
}

/** Replaces the token of the connection. A token of another user closes it with 4501. */
export interface AuthMessage {
  type: 'auth';
  token: string;
}

/** Requests a `pong`. More than 100 messages or pings in 10 seconds close the connection with 4505. */
export interface PingMessage {
  type: 'ping';
}

/** Subscribes to the approvals feed. It does not count as a channel. */
export interface SubscribeFeedMessage {
  type: 'subscribe';
  feed: 'approvals';
  /** Of the snapshot or of `caught_up`. With a cursor and another scope, the server sends a resync. */
  scope?: string;
  cursor?: string;
}

/** Ends the subscription to the approvals feed. The response is `unsubscribed` or `error`. */
export interface UnsubscribeFeedMessage {
  type: 'unsubscribe';
  feed: 'approvals';
}

/** Every message of a client of flagcast.v1. Others get an `error` with the code `bad_message`. */
export type ClientMessage =
  | SubscribeMessage
  | UnsubscribeMessage
  | SubscribeFeedMessage
  | UnsubscribeFeedMessage
  | AuthMessage
  | AnnounceMessage
  | PingMessage;
