import type { ChannelName, FeedName, SubscriptionName } from '@flagcast/protocol';
import type { ApprovalsScope, Channel, ChannelIds, ChannelRequest } from '../auth/authorization.js';
import type { ChannelChange, ChannelEnd } from '../broadcast/broadcaster.js';
import type { DeliveryBatch } from '../broadcast/deliveries.js';
import type { SharedEvents } from '../events/dialect.js';
import { approvalsFeed, channelKey } from '../events/event.js';
import { joined } from './codecs/frame.js';
import type { MissedTarget } from '../replay/missed-events.js';
import { Subscription, type SubscriptionOptions } from './subscription.js';

/** What a subscription calls when its channel changes. */
export interface SubscriptionOwner {
  changed(subscription: V1Subscription, change: ChannelChange): void;
}

type Options = Omit<SubscriptionOptions, 'key'> & { readonly owner: SubscriptionOwner };

/** A channel or the approvals feed of a flagcast.v1 connection. */
export abstract class V1Subscription extends Subscription {
  /** Whether `caught_up` was sent. */
  isAnnounced = false;
  readonly #owner: SubscriptionOwner;

  constructor({ owner, ...options }: SubscriptionOptions & { readonly owner: SubscriptionOwner }) {
    super(options);
    this.#owner = owner;
  }

  /** The keys that name it in messages. */
  abstract get name(): SubscriptionName;
  /** What `caught_up` has in addition. */
  get caughtUp(): { readonly scope?: string } {
    return {};
  }

  /** Where missed events are looked up. */
  abstract get target(): MissedTarget;

  /** The events that it receives; null if there are none. */
  encode(events: SharedEvents): Buffer | null {
    return events.events.length === 0 ? null : events.encoded(this.dialect);
  }

  changed(change: ChannelChange): void {
    this.#owner.changed(this, change);
  }
}

export const endMessages: Readonly<Record<ChannelEnd, string>> = {
  environment_deleted: 'The environment was deleted',
  project_archived: 'The project was archived',
  project_deleted: 'The project was deleted',
};

export function isNamed(known: Channel | ChannelRequest, name: ChannelRequest): boolean {
  if (known.projectId !== name.projectId) return false;
  if ('environmentKey' in name) {
    return 'environmentKey' in known && known.environmentKey === name.environmentKey;
  }
  return 'environmentId' in known && known.environmentId === name.environmentId;
}

export class V1Channel extends V1Subscription {
  /** With the environment's current key. */
  channel: Channel;
  /** As the client named it: an id can be written in several ways. */
  readonly request: ChannelRequest;

  constructor(channel: Channel, request: ChannelRequest, options: Options) {
    super({ ...options, key: channelKey(channel.projectId, channel.environmentId) });
    this.channel = channel;
    this.request = request;
  }

  get name(): ChannelName {
    const { projectId, environmentKey, environmentId } = this.channel;
    return { project_id: projectId, environment: environmentKey, environment_id: environmentId };
  }

  get target(): Channel {
    return this.channel;
  }
}

/** The steps of requests in all channels that the user may view. */
export class ApprovalsSubscription extends V1Subscription {
  readonly scope: ApprovalsScope;
  readonly name: FeedName = { feed: 'approvals' };
  readonly target = 'approvals';

  constructor(scope: ApprovalsScope, options: Options) {
    super({ ...options, key: approvalsFeed });
    this.scope = scope;
  }

  override get caughtUp(): { readonly scope: string } {
    return { scope: this.scope.id };
  }

  /** All who see the same events of a batch share its bytes. */
  protected override encodeAfter({ batches }: DeliveryBatch, after: number): Buffer | null {
    const encoded = batches
      .filter(({ sequence }) => sequence > after)
      .flatMap((batch) => this.encode(batch) ?? []);
    return encoded.length === 0 ? null : joined(encoded);
  }

  override encode(events: SharedEvents): Buffer | null {
    return super.encode(events.only((event) => this.scope.includes(event)));
  }

  /** Whether a change of these channels changes what it contains; null: of all environments of the project. */
  contains({ projectId, environmentId }: { projectId: string; environmentId: string | null }): boolean {
    const { viewable } = this.scope;
    if (environmentId !== null || !('channels' in viewable)) {
      return this.scope.includes({ projectId, environmentId: environmentId ?? '' });
    }
    return viewable.channels.some((channel: ChannelIds) => channel.projectId === projectId);
  }
}
