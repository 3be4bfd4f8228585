import type { EventMessage, HelloMessage, ServerMessage, Snapshot } from '#protocol';
import type { ChannelName } from '../request.js';
import type { StaleStatus } from '../status.js';

/** A message between the tabs of one user. `from` and `to` name tabs, `request` names what is answered. It never contains a token. */
export type TabMessage = FollowerMessage | LeaderMessage;

/** A channel in the messages between tabs. `env` is the newest key that the sender knows. */
export interface TabChannel extends ChannelName {
  /** null until the sender has a snapshot. */
  readonly environmentId: string | null;
}

/** Whether both are the same channel: by the environment's id, or by its key while one of the tabs does not know the id. */
export function isSameChannel(one: TabChannel, other: TabChannel): boolean {
  if (one.projectId !== other.projectId) return false;
  return one.environmentId === null || other.environmentId === null
    ? one.env === other.env
    : one.environmentId === other.environmentId;
}

/** A channel that a tab wants. */
export interface Wish {
  readonly channel: TabChannel;
  /** Whether the tab has its state already. */
  readonly filled: boolean;
}

export type FollowerMessage = { readonly from: string } & (
  | { readonly type: 'wants'; readonly channels: readonly Wish[] }
  | {
      readonly type: 'snapshot';
      readonly to: string;
      readonly request: string;
      readonly channel: TabChannel;
    }
  | {
      readonly type: 'subscribe';
      readonly to: string;
      readonly channel: TabChannel;
      /** Cursors that the tab has passed, the newest first. */
      readonly cursors: readonly string[];
    }
  | { readonly type: 'ping'; readonly to: string }
  | {
      readonly type: 'lent';
      readonly to: string;
      readonly request: string;
      readonly snapshot: Snapshot | null;
    }
);

/** An error without its class, as it is cloned between tabs. */
export interface Refusal {
  readonly code: string;
  readonly message: string;
  readonly closeCode: number | undefined;
}

export type LeaderMessage = { readonly from: string } & (
  | {
      readonly type: 'leads';
      /** null while the leader is not connected. */
      readonly hello: HelloMessage | null;
      /** null unless the leader is connected to a server that is stale. */
      readonly stale: StaleStatus | null;
    }
  | { readonly type: 'relay'; readonly message: ServerMessage }
  | { readonly type: 'pong'; readonly to: string }
  | {
      readonly type: 'subscribed';
      readonly to: string;
      readonly channel: TabChannel;
      /** The missed events; null: the leader no longer has them. */
      readonly missed: readonly EventMessage[] | null;
      /** The cursor after the missed events. */
      readonly cursor: string;
    }
  | {
      readonly type: 'answer';
      readonly to: string;
      readonly request: string;
      readonly answer: Snapshot | Refusal;
    }
  | { readonly type: 'lend'; readonly to: string; readonly request: string; readonly channel: TabChannel }
);
