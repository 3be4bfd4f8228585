/** Identifies a channel: an environment of a project. */
export interface ChannelIds {
  readonly projectId: string;
  readonly environmentId: string;
}

/** A flag in a channel. */
export interface FlagIds extends ChannelIds {
  readonly featureId: string;
}

/** A channel with its environment's keys. */
export interface TestChannel extends ChannelIds {
  /** The environment's first key. */
  readonly env: string;
  /** All keys that it has had, if it is renamed. */
  readonly keys?: string[];
}

/** The approvals feed of a user. As a channel it is the one in which its sentinels are requested. */
export interface TestFeed extends TestChannel {
  /** The projects that the user may view at some time, and at the end. */
  readonly projectIds: readonly string[];
  readonly viewableProjectIds: readonly string[];
}

export function isFeed(channel: TestChannel): channel is TestFeed {
  return 'projectIds' in channel;
}
