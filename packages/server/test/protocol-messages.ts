import type {
  ApprovalsSnapshot,
  AuthMessage,
  ClientMessage,
  ControlMessage,
  EventMessage,
  FeatureState,
  PendingChange,
  PlainMessage,
  Snapshot,
} from '@flagcast/protocol';
import type { ProblemStatus, tooMany } from '../src/http-problem.js';

/** The keys of all members of a union. */
type AllKeys<Type> = Type extends unknown ? keyof Type : never;
/**
 * Each key of a type, and whether it may be missing. The lists below hold every key of their type and
 * no other, or the tests do not compile: the documents are always compared with the current code.
 */
type KeysOf<Type> = {
  readonly [Key in AllKeys<Type>]: [Type] extends [Readonly<Record<Key, unknown>>] ? 'always' : 'optional';
};
type KeysByType<Message extends { type: string }> = {
  readonly [Type in Message['type']]: KeysOf<Extract<Message, { type: Type }>>;
};

export const plainKeys = {
  source: 'always',
  type: 'always',
  timestamp: 'always',
  project_id: 'always',
  environment: 'always',
  entity: 'always',
  entity_id: 'always',
  action: 'always',
} satisfies KeysOf<PlainMessage>;

/** The keys of an event of flagcast.v1 in addition to the plain keys. */
export const addedKeys = {
  id: 'always',
  environment_id: 'always',
  row_id: 'always',
  feature_id: 'always',
  pending_change_id: 'always',
  actor: 'always',
  committed_at: 'always',
  seen_at: 'always',
  feature: 'optional',
  feature_unreadable: 'optional',
  pending_change: 'optional',
  pending_change_unreadable: 'optional',
  feed: 'optional',
  cursor: 'optional',
} satisfies KeysOf<Omit<EventMessage, keyof PlainMessage>>;

/** Of a channel or of the feed. */
const subscriptionKeys = {
  project_id: 'optional',
  environment: 'optional',
  environment_id: 'optional',
  feed: 'optional',
} as const;
const channelKeys = { project_id: 'always', environment: 'always', environment_id: 'always' } as const;

export const controlKeys = {
  hello: {
    type: 'always',
    protocol: 'always',
    server: 'always',
    user_id: 'always',
    username: 'always',
    token_expires_at: 'always',
    heartbeat_interval_ms: 'always',
    max_channels: 'always',
    guarantee: 'always',
    guarantee_reason: 'always',
    overlap_ms: 'always',
    embedded_state: 'always',
    presence: 'always',
  },
  caught_up: { type: 'always', ...subscriptionKeys, cursor: 'always', scope: 'optional' },
  resync: { type: 'always', ...subscriptionKeys, reason: 'always' },
  unsubscribed: { type: 'always', ...subscriptionKeys },
  heartbeat: { type: 'always', cursor: 'always', timestamp: 'always', as_of: 'always' },
  freshness: { type: 'always', state: 'always', since: 'optional', reason: 'optional' },
  channel_changed: { type: 'always', ...channelKeys, previous_environment: 'always' },
  pong: { type: 'always', timestamp: 'always' },
  authenticated: { type: 'always', token_expires_at: 'always' },
  presence: {
    type: 'always',
    project_id: 'always',
    environment_id: 'always',
    feature_id: 'optional',
    pending_change_id: 'optional',
    users: 'always',
    count: 'always',
  },
  error: {
    type: 'always',
    code: 'always',
    message: 'always',
    project_id: 'optional',
    environment: 'optional',
    environment_id: 'optional',
    feed: 'optional',
  },
  close: { type: 'always', code: 'always', reason: 'always' },
} satisfies KeysByType<ControlMessage>;

const askedKeys = {
  type: 'always',
  project_id: 'optional',
  env: 'optional',
  env_id: 'optional',
  feed: 'optional',
} as const;

export const clientKeys = {
  subscribe: { ...askedKeys, scope: 'optional', cursor: 'optional' },
  unsubscribe: askedKeys,
  announce: {
    type: 'always',
    view: 'always',
    project_id: 'optional',
    env_id: 'optional',
    feature_id: 'optional',
    pending_change_id: 'optional',
    field: 'optional',
  },
  auth: { type: 'always', token: 'always' } satisfies KeysOf<AuthMessage>,
  ping: { type: 'always' },
} satisfies KeysByType<ClientMessage>;

export const featureKeys = {
  id: 'always',
  key: 'always',
  name: 'always',
  description: 'always',
  kind: 'always',
  rollout_key: 'always',
  enabled: 'always',
  default_value: 'always',
  created_at: 'always',
  updated_at: 'always',
  version: 'always',
  rules: 'optional',
  rules_total: 'optional',
  variants: 'optional',
  variants_total: 'optional',
  schedules: 'optional',
  schedules_total: 'optional',
  schedule_state: 'optional',
  tags: 'optional',
  tags_total: 'optional',
} satisfies KeysOf<FeatureState>;

export const snapshotKeys = {
  project_id: 'always',
  environment: 'always',
  environment_id: 'always',
  cursor: 'always',
  embedded_state: 'always',
  features: 'always',
  pending_changes: 'always',
} satisfies KeysOf<Snapshot>;

export const pendingChangeKeys = {
  id: 'always',
  project_id: 'always',
  environment_id: 'always',
  environment: 'always',
  status: 'always',
  requested_by: 'always',
  requested_by_id: 'always',
  created_at: 'always',
  version: 'always',
  reason: 'always',
  decided_by: 'always',
  decided_at: 'always',
  decision_reason: 'always',
  entities: 'always',
} satisfies KeysOf<PendingChange>;

export const approvalsSnapshotKeys = {
  feed: 'always',
  scope: 'always',
  cursor: 'always',
  embedded_state: 'always',
  may_decide: 'always',
  pending_changes: 'always',
} satisfies KeysOf<ApprovalsSnapshot>;

/** The refusals whose code is not written next to their status in the source. */
export const typedRefusals = {
  too_many_user: 429,
  too_many_address: 429,
} satisfies Record<Parameters<typeof tooMany>[0], ProblemStatus>;
