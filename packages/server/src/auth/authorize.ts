/** A channel that a user may see. All ids are opaque texts: uuid, number, slug. */
export interface AuthorizedChannel {
  /** As the user's token names it, or `authenticate`. */
  readonly userId: string;
  /** As the view has it, in its text form. */
  readonly projectId: string;
  /** As the view has it, in its text form. */
  readonly environmentId: string;
  /** What clients ask for as `env`, e.g. `prod`. */
  readonly environmentKey: string;
  /** Default: the id. */
  readonly projectName?: string | null;
  /** Default: the key. */
  readonly environmentName?: string | null;
}

/** All channels that these users may see now: of those who come, or of all who are connected. */
export type Authorize = (userIds: readonly string[]) => Promise<readonly AuthorizedChannel[]>;
