import type { EventMessage, HelloMessage, ServerMessage, Snapshot } from '#protocol';
import type { ChannelName } from '../request.js';

/** What the tabs of one user tell each other. `from` and `to` name tabs, `request` what is answered. No token is ever in it. */
export type TabMessage = FollowerMessage | LeaderMessage;

/** A channel that a tab wants. */
export interface Wish {
  readonly channel: ChannelName;
  /** Whether the tab has its state already. */
  readonly filled: boolean;
}

export type FollowerMessage = { readonly from: string } & (
  | { readonly type: 'wants'; readonly channels: readonly Wish[] }
  | {
      readonly type: 'snapshot';
      readonly to: string;
      readonly request: string;
      readonly channel: ChannelName;
    }
  | {
      readonly type: 'subscribe';
      readonly to: string;
      readonly channel: ChannelName;
      /** Places that the tab has passed, the newest first. */
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
    }
  | { readonly type: 'relay'; readonly message: ServerMessage }
  | { readonly type: 'pong'; readonly to: string }
  | {
      readonly type: 'subscribed';
      readonly to: string;
      readonly channel: ChannelName;
      /** What was missed; null: more than the leader remembers. */
      readonly missed: readonly EventMessage[] | null;
      /** Where the tab is then. */
      readonly cursor: string;
    }
  | {
      readonly type: 'answer';
      readonly to: string;
      readonly request: string;
      readonly answer: Snapshot | Refusal;
    }
  | { readonly type: 'lend'; readonly to: string; readonly request: string; readonly channel: ChannelName }
);
