import type { FeatureState } from '@flagcast/client';

/** The answer of `GET /api/auth/mode`, which needs no token. */
export interface SignInMode {
  readonly sign_in: 'password' | 'token';
  /** Only in the embedded demo; their passwords are `<username>-demo`. */
  readonly demo_people: readonly { readonly username: string; readonly about: string }[];
  /** Names the server process. */
  readonly server: string;
  /** Null while the server has not read its database yet. */
  readonly guarantee: 'exact' | 'overlap' | 'partial' | null;
  /** Why this one holds. */
  readonly guarantee_reason: string | null;
  /** With `overlap`: for how long a transaction may be open, in milliseconds. */
  readonly overlap_ms: number | null;
}

export interface SignedIn {
  readonly token: string;
  /** RFC 3339. */
  readonly expires_at: string;
}

export interface Me {
  readonly user: { readonly id: string; readonly username: string; readonly is_superuser: boolean };
  readonly projects: readonly {
    readonly id: string;
    readonly permissions: readonly string[];
  }[];
  readonly writes: boolean;
  /** What an approval or a rejection asks for. */
  readonly decisions: 'direct' | 'password' | 'elsewhere';
}

export interface Environment {
  readonly id: string;
  readonly key: string;
  readonly name: string;
  /** A change here waits for somebody's approval. */
  readonly guarded: boolean;
  /** Who guarded it, and when (RFC 3339); null where it is not. */
  readonly guarded_by: string | null;
  readonly guarded_at: string | null;
}

export interface Project {
  readonly id: string;
  readonly name: string;
  readonly environments: readonly Environment[];
}

/** A value of a field: anything that JSON can hold. */
type FieldValue = unknown;

/** One field's change. */
export interface FieldDiff {
  readonly field: string;
  readonly old: FieldValue;
  readonly new: FieldValue;
}

/** An entry of the audit log, or one entity's part in a step of a request. */
export interface AuditEntry {
  /** `<source>:<row id>:<entity>:<entity id>:<action>`; an event has all of these. */
  readonly id: string;
  readonly source: 'audit' | 'pending';
  /** RFC 3339; null where the database keeps no time for it: that of a cancellation. */
  readonly created_at: string | null;
  /** RFC 3339: when it was asked for; null in the audit log. */
  readonly requested_at: string | null;
  /** `created`, `updated`, `deleted`, or what a host calls it; `pending`, `updated`, `approved`, `rejected`, `cancelled`. */
  readonly action: string;
  readonly entity: string;
  readonly entity_id: string;
  readonly feature_id: string | null;
  /** As it is now; null where the feature is gone. */
  readonly feature_key: string | null;
  readonly feature_name: string | null;
  /** Null where the database does not tell. */
  readonly username: string | null;
  /** Why it was asked for, or rejected. */
  readonly reason: string | null;
  /** A value is too large to be shown: `diff` is empty. */
  readonly truncated: boolean;
  readonly diff: readonly FieldDiff[];
}

export interface AuditPage {
  readonly entries: readonly AuditEntry[];
  /** What to give as `before` for what is older; null at the end. */
  readonly next: string | null;
  /** RFC 3339: nothing before this time was looked at, although the page is not full; else null. */
  readonly searched_until: string | null;
}

export interface ChangedEntity {
  readonly entity: string;
  readonly entity_id: string;
  /** `insert`, `update`, `delete`; null where the request does not say. */
  readonly action: string | null;
  readonly feature_id: string | null;
  readonly feature_key: string | null;
  readonly feature_name: string | null;
  readonly diff: readonly FieldDiff[];
}

/** A request that waits. */
export interface OpenChange {
  readonly id: string;
  readonly project_id: string;
  /** The project's name. */
  readonly project: string;
  /** The environment's key. */
  readonly environment: string;
  readonly environment_name: string;
  readonly requested_by: string;
  /** Whether that is an active user now. */
  readonly requester_active: boolean;
  readonly created_at: string;
  readonly reason: string | null;
  readonly entities: readonly ChangedEntity[];
  /** Whether whoever asks asked for it. */
  readonly own: boolean;
  /** Whether whoever asks may approve and reject it. */
  readonly may_decide: boolean;
  readonly may_cancel: boolean;
}

export interface RuleOrSchedule {
  readonly id: string;
  readonly [field: string]: unknown;
}

export interface FeatureDetails {
  readonly feature: FeatureState;
  readonly rules: readonly RuleOrSchedule[];
  readonly schedules: readonly RuleOrSchedule[];
}

/** What `PATCH /api/features/:id` can set. */
export interface FeatureFields {
  readonly name: string;
  readonly description: string | null;
  readonly enabled: boolean;
  readonly default_value: string;
  readonly rollout_key: string | null;
}
