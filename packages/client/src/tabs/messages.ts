import type { AnnounceMessage, EventMessage, HelloMessage, ServerMessage, SubscriptionName } from '#protocol';
import type { ChannelKey } from '../request.js';
import type { StaleStatus } from '../status.js';
import type { AnySnapshot } from '../stream-position.js';

/**
 * A message between the tabs of one user. `from` and `to` are tab ids; `request` identifies the request that a
 * response belongs to. A message never contains a token.
 */
export type TabMessage = FollowerMessage | LeaderMessage;

/** The version of these messages. Tabs with another version do not share the connection. */
export const tabProtocolVersion = 5;

/** A channel or the approvals feed in the messages between tabs. `env` is the newest key that the sender knows. */
export interface TabChannel extends ChannelKey {
  /** null until the sender has a snapshot. */
  readonly environmentId: string | null;
}

/** The approvals feed as a channel: no project has the id ''. */
export const approvalsFeed: TabChannel = { projectId: '', env: '', environmentId: 'approvals' };

/** The keys by which messages and snapshots name what they are about. */
interface ServerName {
  readonly type?: string;
  readonly feed?: string;
  readonly project_id?: string;
  readonly environment?: string;
  readonly environment_id?: string;
}

/** Returns what a message or a snapshot is about; null if it is about the connection. */
export function channelOf({
  feed,
  project_id,
  environment = '',
  environment_id,
}: ServerName): TabChannel | null {
  if (feed) return approvalsFeed;
  if (project_id === undefined || environment_id === undefined) return null;
  return { projectId: project_id, env: environment, environmentId: environment_id };
}

/** Returns the channel or the feed as messages of the server name it. */
export function nameOf({ projectId, env, environmentId }: TabChannel): SubscriptionName {
  return projectId
    ? { project_id: projectId, environment: env, environment_id: environmentId ?? '' }
    : { feed: 'approvals' };
}

/** Whether both are the same channel: compares the environment's id, or its key while one tab does not know the id. */
export function isSameChannel(one: TabChannel, other: TabChannel): boolean {
  if (one.projectId !== other.projectId) return false;
  return one.environmentId === null || other.environmentId === null
    ? one.env === other.env
    : one.environmentId === other.environmentId;
}

/** A channel that is open in a follower. */
export interface OpenChannel {
  readonly channel: TabChannel;
  /** Whether the tab has the channel's state. */
  readonly hasState: boolean;
}

export type FollowerMessage = { readonly from: string } & (
  | {
      /** Sent when the channels of the tab, or its leader, have changed. */
      readonly type: 'open_channels';
      readonly channels: readonly OpenChannel[];
    }
  | {
      readonly type: 'snapshot_request';
      readonly to: string;
      readonly request: string;
      readonly channel: TabChannel;
    }
  | {
      readonly type: 'subscribe';
      readonly to: string;
      readonly channel: TabChannel;
      /** The newest cursors of the tab, newest first. */
      readonly cursors: readonly string[];
    }
  | { readonly type: 'ping'; readonly to: string }
  | { readonly type: 'announce'; readonly to: string; readonly message: AnnounceMessage }
  | {
      /** Responds to `state_request`. */
      readonly type: 'state_response';
      readonly to: string;
      readonly request: string;
      readonly snapshot: AnySnapshot | null;
    }
);

/** The properties of a FlagcastError. Structured cloning between tabs does not keep its class. */
export interface ErrorProperties {
  readonly code: string;
  readonly message: string;
  readonly closeCode: number | undefined;
}

export type LeaderMessage = { readonly from: string } & (
  | {
      /** Sent when the leader or its connection has changed, and to each new follower. */
      readonly type: 'leader_status';
      /** null while the leader is not connected. */
      readonly hello: HelloMessage | null;
      /** null unless the leader is connected to a server that is stale. */
      readonly stale: StaleStatus | null;
    }
  | {
      /** A message of the server, for all followers. */
      readonly type: 'server_message';
      readonly message: ServerMessage;
    }
  | { readonly type: 'pong'; readonly to: string }
  | {
      /** Responds to `subscribe`. */
      readonly type: 'subscribed';
      readonly to: string;
      readonly channel: TabChannel;
      /** The missed events; null if the leader no longer has them. */
      readonly missed: readonly EventMessage[] | null;
      /** The cursor after the missed events. */
      readonly cursor: string;
    }
  | {
      /** Responds to `snapshot_request`. */
      readonly type: 'snapshot_response';
      readonly to: string;
      readonly request: string;
      readonly result: AnySnapshot | ErrorProperties;
    }
  | {
      /** Asks a follower for the state of a channel that the leader does not have. */
      readonly type: 'state_request';
      readonly to: string;
      readonly request: string;
      readonly channel: TabChannel;
    }
);

/** A message before the sender's id is added. */
export type WithoutSender<Message> = Message extends unknown ? Omit<Message, 'from'> : never;
