/**
 * The requests for approval in all channels of the user.
 *
 * @module @flagcast/client/approvals
 */
import type { ApprovalsSnapshot } from '#protocol';
import type { Client } from '../client.js';
import type { Subscription } from '../subscription.js';
import { type ApprovalsState, createApprovalsModel } from './model.js';

export type { ApprovalsState } from './model.js';

/** The requests in all channels that the user may view, kept up to date. */
export type Approvals = Subscription<ApprovalsState, ApprovalsSnapshot>;

/**
 * Opens the approvals feed of the client. It shares the connection with the channels, and counts as none of them.
 * While it is open, another call returns the same feed: call `close` once per call.
 *
 * Its events contain the request after each step, so the state needs no further request. A request that is decided
 * moves from `open` to `decided`. When the user's rights change, the state is replaced by a new snapshot.
 */
export function approvals(client: Client): Approvals {
  return client.open({ params: { feed: 'approvals' }, createModel: createApprovalsModel });
}
