/** Identifies a channel: an environment of a project. */
export interface ChannelIds {
  readonly projectId: string;
  readonly environmentId: string;
}

/** A channel with its environment's keys. */
export interface TestChannel extends ChannelIds {
  /** The environment's first key. */
  readonly env: string;
  /** All keys that it has had, if it is renamed. */
  readonly keys?: string[];
}
