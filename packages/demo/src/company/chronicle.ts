import type { FlagIdea } from './flag-idea.js';
import type { DemoProject } from './people.js';
import type { Random } from './random.js';

const environmentKeys = ['prod', 'stage', 'dev'] as const;
export type EnvironmentKey = (typeof environmentKeys)[number];

export type Json = string | number | boolean | null | readonly Json[] | { readonly [key: string]: Json };
/** What audit_log keeps of an entity: see audit-state.ts of flagcast. */
export type State = { readonly id: string } & Readonly<Record<string, Json>>;

/** A flag with its parameters in each environment. */
export interface Feature {
  readonly id: string;
  readonly project: DemoProject;
  readonly idea: FlagIdea;
  readonly createdAtMs: number;
  description: string;
  updatedAtMs: number;
  readonly params: Record<EnvironmentKey, { enabled: boolean; defaultValue: string; updatedAtMs: number }>;
}

/** A rule or a schedule of a flag in one environment. */
export interface Part {
  readonly entity: 'rule' | 'feature_schedule';
  readonly feature: Feature;
  readonly environment: EnvironmentKey;
  readonly createdAtMs: number;
  updatedAtMs: number;
  state: State;
}

/** One row of audit_log. */
export interface AuditEntry {
  readonly atMs: number;
  readonly projectId: string;
  readonly environment: EnvironmentKey;
  readonly featureId: string;
  readonly entity: string;
  readonly entityId: string;
  /** Null: the system did it. */
  readonly username: string | null;
  readonly action: 'create' | 'update' | 'delete';
  readonly oldValue: State | null;
  readonly newValue: State | null;
  readonly requestId: string;
}

/** What a pending change would do to a flag's parameters. */
export type ParamsChange = Partial<{ enabled: boolean; default_value: string }>;

/** One row of pending_changes, with its only entity. */
export interface ChangeRequest {
  readonly id: string;
  readonly atMs: number;
  readonly feature: Feature;
  readonly environment: EnvironmentKey;
  readonly requestedBy: string;
  readonly entity: string;
  readonly entityId: string;
  readonly change: Json;
  /** A new rule, or new parameters of the flag. */
  readonly wanted: { readonly rule: State } | { readonly params: ParamsChange };
  status: 'pending' | 'approved' | 'rejected' | 'cancelled';
  decidedBy: string | null;
  decidedAtMs: number | null;
  rejectionReason: string | null;
}

/**
 * Keeps what the demo's people did: the present state, and the rows that led to it, so that the
 * newest audit row of every entity shows exactly what is there now. Calls come in order of time.
 */
export class Chronicle {
  readonly features = new Map<string, Feature>();
  readonly parts = new Map<string, Part>();
  readonly requests: ChangeRequest[] = [];
  readonly audit: AuditEntry[] = [];
  readonly #random: Random;

  constructor(random: Random) {
    this.#random = random;
  }

  /** Adds what was there before the story begins: without a trace in the audit. */
  addFeature(
    atMs: number,
    project: DemoProject,
    idea: FlagIdea,
    enabledIn: readonly EnvironmentKey[],
  ): Feature {
    const params = (environment: EnvironmentKey): Feature['params'][EnvironmentKey] => ({
      enabled: enabledIn.includes(environment),
      defaultValue: idea.values[0] ?? 'true',
      updatedAtMs: atMs,
    });
    const feature: Feature = {
      id: this.#random.uuid(),
      project,
      idea,
      createdAtMs: atMs,
      updatedAtMs: atMs,
      description: idea.description,
      params: { prod: params('prod'), stage: params('stage'), dev: params('dev') },
    };
    this.features.set(feature.id, feature);
    return feature;
  }

  createFeature(atMs: number, username: string, project: DemoProject, idea: FlagIdea): void {
    const feature = this.addFeature(atMs, project, idea, []);
    const requestId = this.#random.uuid();
    for (const environment of environmentKeys) {
      this.#record(atMs, username, feature, environment, null, featureState(feature, environment), requestId);
    }
  }

  deleteFeature(atMs: number, username: string, feature: Feature): void {
    const requestId = this.#random.uuid();
    for (const part of this.partsOf(feature)) this.dropPart(atMs, username, part, requestId);
    for (const environment of environmentKeys) {
      this.#record(atMs, username, feature, environment, featureState(feature, environment), null, requestId);
    }
    this.features.delete(feature.id);
  }

  describe(atMs: number, username: string, feature: Feature, description: string): void {
    const before = environmentKeys.map((environment) => featureState(feature, environment));
    feature.description = description;
    feature.updatedAtMs = atMs;
    const requestId = this.#random.uuid();
    environmentKeys.forEach((environment, index) => {
      const after = featureState(feature, environment);
      this.#record(atMs, username, feature, environment, before[index] ?? null, after, requestId);
    });
  }

  setParams(
    atMs: number,
    username: string | null,
    feature: Feature,
    environment: EnvironmentKey,
    { enabled, default_value: defaultValue }: ParamsChange,
  ): void {
    const before = featureState(feature, environment);
    const params = feature.params[environment];
    params.enabled = enabled ?? params.enabled;
    params.defaultValue = defaultValue ?? params.defaultValue;
    params.updatedAtMs = atMs;
    const after = featureState(feature, environment);
    this.#record(atMs, username, feature, environment, before, after, this.#random.uuid());
  }

  /** Makes the rule or schedule that `state` names, or changes it to `state`; `username` null: before the story. */
  putPart(
    atMs: number,
    username: string | null,
    { entity, feature, environment }: Pick<Part, 'entity' | 'feature' | 'environment'>,
    state: State,
  ): void {
    const id = state.id;
    const existing = this.parts.get(id);
    this.parts.set(id, {
      entity,
      feature,
      environment,
      state,
      createdAtMs: existing?.createdAtMs ?? atMs,
      updatedAtMs: atMs,
    });
    if (username === null) return;
    const where = { entity, entityId: id };
    this.#record(
      atMs,
      username,
      feature,
      environment,
      existing?.state ?? null,
      state,
      this.#random.uuid(),
      where,
    );
  }

  dropPart(atMs: number, username: string, part: Part, requestId = this.#random.uuid()): void {
    const { entity, feature, environment, state } = part;
    const id = state.id;
    this.parts.delete(id);
    this.#record(atMs, username, feature, environment, state, null, requestId, { entity, entityId: id });
  }

  partsOf(feature: Feature): Part[] {
    return [...this.parts.values()].filter((part) => part.feature === feature);
  }

  openRequests(): ChangeRequest[] {
    return this.requests.filter((request) => request.status === 'pending');
  }

  request(
    atMs: number,
    requestedBy: string,
    feature: Feature,
    environment: EnvironmentKey,
    wanted: ChangeRequest['wanted'],
    reason: string,
  ): void {
    const before = featureState(feature, environment);
    const [entity, entityId, action, changes] =
      'rule' in wanted
        ? (['rule', wanted.rule.id, 'insert', newValues(wanted.rule)] as const)
        : (['feature', feature.id, 'update', differences(before, { ...before, ...wanted.params })] as const);
    this.requests.push({
      id: this.#random.uuid(),
      atMs,
      feature,
      environment,
      requestedBy,
      entity,
      entityId,
      wanted,
      change: {
        entities: [{ entity, entity_id: entityId, action, changes }],
        meta: { reason, client: 'console', origin: 'demo' },
      },
      status: 'pending',
      decidedBy: null,
      decidedAtMs: null,
      rejectionReason: null,
    });
  }

  approve(atMs: number, username: string, request: ChangeRequest): void {
    const { feature, environment, wanted } = request;
    request.status = 'approved';
    request.decidedBy = username;
    request.decidedAtMs = atMs;
    if ('rule' in wanted) this.putPart(atMs, username, { entity: 'rule', feature, environment }, wanted.rule);
    else this.setParams(atMs, username, feature, environment, wanted.params);
  }

  reject(atMs: number, username: string, request: ChangeRequest, reason: string): void {
    request.status = 'rejected';
    request.decidedBy = username;
    request.decidedAtMs = atMs;
    request.rejectionReason = reason;
  }

  #record(
    atMs: number,
    username: string | null,
    feature: Feature,
    environment: EnvironmentKey,
    oldValue: State | null,
    newValue: State | null,
    requestId: string,
    { entity, entityId }: { entity: string; entityId: string } = { entity: 'feature', entityId: feature.id },
  ): void {
    this.audit.push({
      atMs,
      projectId: feature.project.id,
      environment,
      featureId: feature.id,
      entity,
      entityId,
      username,
      action: oldValue === null ? 'create' : newValue === null ? 'delete' : 'update',
      oldValue,
      newValue,
      requestId,
    });
  }
}

/** The same as featureState in states.ts makes of the rows. */
export function featureState(feature: Feature, environment: EnvironmentKey): State {
  const { enabled, defaultValue } = feature.params[environment];
  return {
    id: feature.id,
    key: feature.idea.key,
    name: feature.idea.name,
    description: feature.description,
    kind: feature.idea.values.length > 0 ? 'multivariant' : 'simple',
    rollout_key: feature.idea.values.length > 0 ? 'user_id' : null,
    enabled,
    default_value: defaultValue,
  };
}

/** `{field: {old, new}}` of the fields that differ, as pending_changes.change has it. */
export function differences(before: State, after: State): Record<string, { old: Json; new: Json }> {
  const changed = Object.keys(after).filter((field) => before[field] !== after[field]);
  return Object.fromEntries(
    changed.map((field) => [field, { old: before[field] ?? null, new: after[field] ?? null }]),
  );
}

/** `{field: {new}}` of everything but the id, for something that does not exist yet. */
export function newValues(state: State): Record<string, { new: Json }> {
  const fields = Object.entries(state).filter(([field]) => field !== 'id');
  return Object.fromEntries(fields.map(([field, value]) => [field, { new: value }]));
}
