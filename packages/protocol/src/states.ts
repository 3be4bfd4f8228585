/** A feature with its parameters in one environment: an element of a snapshot, or the state after an event. */
export interface FeatureState {
  readonly id: string;
  readonly key: string;
  readonly name: string;
  readonly description: string | null;
  /** `simple` or `multivariant`. */
  readonly kind: string;
  readonly rollout_key: string | null;
  readonly enabled: boolean;
  readonly default_value: string;
  /** RFC 3339, UTC. */
  readonly created_at: string;
  /** RFC 3339, UTC: the later of the feature's and its parameters' update. */
  readonly updated_at: string;
  /** Changes with every write to the feature or its parameters in this environment. A write must send it back. */
  readonly version: string;
  /**
   * The first rules in this environment, by priority. Like the other lists, it has at most 30 elements, is sent only in
   * snapshots and events, and is absent if the server cannot read it: the database has no such table or columns.
   */
  readonly rules?: readonly FeatureRule[];
  /** How many rules there are. */
  readonly rules_total?: number;
  /** By name. */
  readonly variants?: readonly FeatureVariant[];
  readonly variants_total?: number;
  /** Those that have ended come last. */
  readonly schedules?: readonly FeatureSchedule[];
  readonly schedules_total?: number;
  /** What the schedules do to the feature. Absent without schedules, and if more than 30 have not ended. */
  readonly schedule_state?: ScheduleState;
  /** By slug. */
  readonly tags?: readonly FeatureTag[];
  readonly tags_total?: number;
}

/** Values of columns that the database does not have are null. Names are cut to 100 characters. */
export interface FeatureRule {
  readonly id: string;
  /** `assign`, `include` or `exclude`. */
  readonly action: string | null;
  /** As JSON text, because JSON.parse rounds numbers that a double cannot represent. Null if it is not sent: all conditions of a feature together are limited to 8 KiB, and each to 1,000 nested levels. */
  readonly condition: string | null;
  readonly segment_id: string | null;
  readonly segment_name: string | null;
  /** The variant that `assign` gives. */
  readonly flag_variant_id: string | null;
  readonly priority: number | null;
}

/** A value of a multivariant feature. */
export interface FeatureVariant {
  readonly id: string;
  readonly name: string;
  /** The part of the users who get it. */
  readonly rollout_percent: number | null;
}

/** Changes the effective state of a feature at certain times, without a write and so without an event. */
export interface FeatureSchedule {
  readonly id: string;
  /** `enable` or `disable`. */
  readonly action: string | null;
  /** RFC 3339, UTC. Null: since the feature was created. */
  readonly starts_at: string | null;
  /** RFC 3339, UTC. Null: without an end. */
  readonly ends_at: string | null;
  /** When it begins to act each time: minute, hour, day, month, day of the week. Null: all the time between start and end. */
  readonly cron_expr: string | null;
  /** For how long it acts each time, e.g. `1h30m`. Null: until the end. */
  readonly cron_duration: string | null;
  /** The time zone of `cron_expr`, e.g. `Europe/Berlin`. */
  readonly timezone: string | null;
  /** RFC 3339, UTC. Of two schedules that act, the newer one decides. */
  readonly created_at: string | null;
}

/**
 * What the schedules do to a feature: it is on only while its switch (`enabled`) is on *and* the schedules let it be on.
 * At any time the newest change of `next_changes` that has passed holds; before the first one, `enabled`.
 */
export interface ScheduleState {
  /** Whether the schedules let the feature be on, when this was read. */
  readonly enabled: boolean;
  /** The schedule that decides this. Null: none acts, so that the feature is what it is outside of them. */
  readonly schedule_id: string | null;
  /** The next changes of `enabled`, at most 5, in the order of time. */
  readonly next_changes: readonly ScheduledChange[];
  /** RFC 3339: from then on the state is not known, because more changes follow. Take a new snapshot. Null: all changes are listed. */
  readonly known_until: string | null;
  /** The schedules that cannot be evaluated, and therefore never act: a time zone, cron expression or duration is not valid. */
  readonly invalid_schedule_ids: readonly string[];
}

/** A moment at which the schedules turn a feature on or off. */
export interface ScheduledChange {
  /** RFC 3339, UTC. */
  readonly at: string;
  readonly enabled: boolean;
  /** The schedule that decides from then on; null as in ScheduleState. */
  readonly schedule_id: string | null;
}

/** A label of a feature, in all environments. */
export interface FeatureTag {
  readonly slug: string;
  readonly name: string | null;
  /** As the host stores it, e.g. `#AABBCC`. */
  readonly color: string | null;
}

/** A request to change features: open, or decided. */
export interface PendingChange {
  readonly id: string;
  readonly project_id: string;
  readonly environment_id: string;
  /** The environment's key; null if it does not exist any more. */
  readonly environment: string | null;
  /** `pending`, `approved`, `rejected` or `cancelled`. */
  readonly status: string;
  /** The name of the user who requested it. */
  readonly requested_by: string;
  /** The user's id; null if the host does not record it. */
  readonly requested_by_id: string | null;
  /** RFC 3339, UTC. */
  readonly created_at: string;
  /** Why it was requested. */
  readonly reason: string | null;
  /** Changes with every write to the request. A decision must send it back. */
  readonly version: string;
  readonly entities: readonly PendingChangeEntity[];
  readonly decided_by: string | null;
  /** RFC 3339, UTC; null while it is open, and for cancellations, whose time the host does not record. */
  readonly decided_at: string | null;
  /** Why it was rejected. */
  readonly decision_reason: string | null;
}

/** A part of a request: what it changes on one entity. */
export interface PendingChangeEntity {
  /** `feature`, `rule`, `feature_schedule`, ... */
  readonly entity: string;
  readonly entity_id: string;
  /** `insert`, `update`, `delete`; null if the request does not say. */
  readonly action: string | null;
  readonly feature_id: string | null;
  /** The feature's current key, name and version; null if it does not exist. */
  readonly feature_key: string | null;
  readonly feature_name: string | null;
  readonly feature_version: string | null;
  /** The values are JSON texts, because JSON.parse rounds numbers that a double cannot represent. */
  readonly diff: readonly { readonly field: string; readonly old: string; readonly new: string }[];
}
