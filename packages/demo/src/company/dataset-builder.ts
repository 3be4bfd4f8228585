import type { DemoProject, FlagTemplate } from './company.js';
import type { Random } from './random.js';

const environmentKeys = ['prod', 'stage', 'dev'] as const;
export type EnvironmentKey = (typeof environmentKeys)[number];

export type Json = string | number | boolean | null | readonly Json[] | { readonly [key: string]: Json };
/** An entity as audit_log stores it in old_value and new_value: see feature-state.ts of flagcast. */
export type AuditState = { readonly id: string } & Readonly<Record<string, Json>>;

/** A flag with its parameters in each environment. */
export interface Feature {
  readonly id: string;
  readonly project: DemoProject;
  readonly template: FlagTemplate;
  readonly createdAtMs: number;
  description: string;
  updatedAtMs: number;
  readonly params: Record<EnvironmentKey, { enabled: boolean; defaultValue: string; updatedAtMs: number }>;
}

/** A rule or a schedule of a flag in one environment. */
export interface FlagPart {
  readonly entity: 'rule' | 'feature_schedule';
  readonly feature: Feature;
  readonly environment: EnvironmentKey;
  readonly createdAtMs: number;
  updatedAtMs: number;
  state: AuditState;
}

/** A row of audit_log. */
export interface AuditEntry {
  readonly atMs: number;
  readonly projectId: string;
  readonly environment: EnvironmentKey;
  readonly featureId: string;
  readonly entity: string;
  readonly entityId: string;
  /** Null: a change by the system. */
  readonly username: string | null;
  readonly action: 'create' | 'update' | 'delete';
  readonly oldValue: AuditState | null;
  readonly newValue: AuditState | null;
  readonly requestId: string;
}

/** A change of a flag's parameters. */
export type ParamsChange = Partial<{ enabled: boolean; default_value: string }>;

/** A row of pending_changes with its single entity. */
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
  readonly wanted: { readonly rule: AuditState } | { readonly params: ParamsChange };
  status: 'pending' | 'approved' | 'rejected' | 'cancelled';
  decidedBy: string | null;
  decidedAtMs: number | null;
  rejectionReason: string | null;
}

/** Time and author of a change. `username` null: the system. */
export interface Author {
  readonly atMs: number;
  readonly username: string | null;
}

/** A flag in one environment. */
interface FeatureInEnvironment {
  readonly feature: Feature;
  readonly environment: EnvironmentKey;
}

/**
 * Builds the demo's rows: the current state, and the audit log and requests that led to it. The newest audit row of every
 * entity matches its current state. Calls must be in chronological order.
 */
export class DatasetBuilder {
  readonly features = new Map<string, Feature>();
  readonly parts = new Map<string, FlagPart>();
  readonly requests: ChangeRequest[] = [];
  readonly audit: AuditEntry[] = [];
  readonly #random: Random;

  constructor(random: Random) {
    this.#random = random;
  }

  /** Adds a flag without audit rows, as if it were older than the audit log. */
  addFeature(options: {
    readonly atMs: number;
    readonly project: DemoProject;
    readonly template: FlagTemplate;
    readonly enabledIn: readonly EnvironmentKey[];
  }): Feature {
    const { atMs, project, template, enabledIn } = options;
    const params = (environment: EnvironmentKey): Feature['params'][EnvironmentKey] => ({
      enabled: enabledIn.includes(environment),
      defaultValue: template.values[0] ?? 'true',
      updatedAtMs: atMs,
    });
    const feature: Feature = {
      id: this.#random.uuid(),
      project,
      template,
      createdAtMs: atMs,
      updatedAtMs: atMs,
      description: template.description,
      params: { prod: params('prod'), stage: params('stage'), dev: params('dev') },
    };
    this.features.set(feature.id, feature);
    return feature;
  }

  createFeature(author: Author, project: DemoProject, template: FlagTemplate): void {
    const feature = this.addFeature({ atMs: author.atMs, project, template, enabledIn: [] });
    const requestId = this.#random.uuid();
    for (const environment of environmentKeys) {
      const after = featureState(feature, environment);
      this.#record(author, { feature, environment, before: null, after, requestId });
    }
  }

  deleteFeature(author: Author, feature: Feature): void {
    const requestId = this.#random.uuid();
    for (const part of this.parts.values()) {
      if (part.feature === feature) this.deletePart(author, part, requestId);
    }
    for (const environment of environmentKeys) {
      const before = featureState(feature, environment);
      this.#record(author, { feature, environment, before, after: null, requestId });
    }
    this.features.delete(feature.id);
  }

  setDescription(author: Author, feature: Feature, description: string): void {
    const before = environmentKeys.map((environment) => featureState(feature, environment));
    feature.description = description;
    feature.updatedAtMs = author.atMs;
    const requestId = this.#random.uuid();
    environmentKeys.forEach((environment, index) => {
      const after = featureState(feature, environment);
      this.#record(author, { feature, environment, before: before[index] ?? null, after, requestId });
    });
  }

  setParams(
    author: Author,
    { feature, environment }: FeatureInEnvironment,
    { enabled, default_value: defaultValue }: ParamsChange,
  ): void {
    const before = featureState(feature, environment);
    const params = feature.params[environment];
    params.enabled = enabled ?? params.enabled;
    params.defaultValue = defaultValue ?? params.defaultValue;
    params.updatedAtMs = author.atMs;
    const after = featureState(feature, environment);
    this.#record(author, { feature, environment, before, after, requestId: this.#random.uuid() });
  }

  /** Adds a rule or schedule without audit rows, as if it were older than the audit log. */
  addPart(
    atMs: number,
    { entity, feature, environment }: Pick<FlagPart, 'entity' | 'feature' | 'environment'>,
    state: AuditState,
  ): void {
    const createdAtMs = this.parts.get(state.id)?.createdAtMs ?? atMs;
    this.parts.set(state.id, { entity, feature, environment, state, createdAtMs, updatedAtMs: atMs });
  }

  /** Creates the rule or schedule with the id of `state`, or changes it to `state`. */
  putPart(
    author: Author,
    part: Pick<FlagPart, 'entity' | 'feature' | 'environment'>,
    state: AuditState,
  ): void {
    const { entity, feature, environment } = part;
    const before = this.parts.get(state.id)?.state ?? null;
    this.addPart(author.atMs, part, state);
    const requestId = this.#random.uuid();
    const of = { entity, entityId: state.id };
    this.#record(author, { feature, environment, before, after: state, requestId, of });
  }

  deletePart(author: Author, part: FlagPart, requestId = this.#random.uuid()): void {
    const { entity, feature, environment, state } = part;
    this.parts.delete(state.id);
    const of = { entity, entityId: state.id };
    this.#record(author, { feature, environment, before: state, after: null, requestId, of });
  }

  openRequests(): ChangeRequest[] {
    return this.requests.filter((request) => request.status === 'pending');
  }

  request({
    reason,
    ...request
  }: Pick<ChangeRequest, 'atMs' | 'requestedBy' | 'feature' | 'environment' | 'wanted'> & {
    readonly reason: string;
  }): void {
    const { feature, environment, wanted } = request;
    const before = featureState(feature, environment);
    const [entity, entityId, action, changes] =
      'rule' in wanted
        ? (['rule', wanted.rule.id, 'insert', newValues(wanted.rule)] as const)
        : (['feature', feature.id, 'update', differences(before, { ...before, ...wanted.params })] as const);
    this.requests.push({
      id: this.#random.uuid(),
      ...request,
      entity,
      entityId,
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

  approve(author: Author, request: ChangeRequest): void {
    const { feature, environment, wanted } = request;
    request.status = 'approved';
    request.decidedBy = author.username;
    request.decidedAtMs = author.atMs;
    if ('rule' in wanted) this.putPart(author, { entity: 'rule', feature, environment }, wanted.rule);
    else this.setParams(author, request, wanted.params);
  }

  reject(author: Author, request: ChangeRequest, reason: string): void {
    request.status = 'rejected';
    request.decidedBy = author.username;
    request.decidedAtMs = author.atMs;
    request.rejectionReason = reason;
  }

  #record(
    { atMs, username }: Author,
    {
      feature,
      environment,
      before,
      after,
      requestId,
      of,
    }: FeatureInEnvironment & {
      readonly before: AuditState | null;
      readonly after: AuditState | null;
      readonly requestId: string;
      /** Default: the flag. */
      readonly of?: { readonly entity: string; readonly entityId: string };
    },
  ): void {
    this.audit.push({
      ...{ atMs, projectId: feature.project.id, environment, featureId: feature.id },
      ...(of ?? { entity: 'feature', entityId: feature.id }),
      username,
      action: before === null ? 'create' : after === null ? 'delete' : 'update',
      oldValue: before,
      newValue: after,
      requestId,
    });
  }
}

/** Returns the state that `auditFeatureState` in feature-state.ts reads from the rows. */
export function featureState(feature: Feature, environment: EnvironmentKey): AuditState {
  const { enabled, defaultValue } = feature.params[environment];
  return {
    id: feature.id,
    key: feature.template.key,
    name: feature.template.name,
    description: feature.description,
    kind: feature.template.values.length > 0 ? 'multivariant' : 'simple',
    rollout_key: feature.template.values.length > 0 ? 'user_id' : null,
    enabled,
    default_value: defaultValue,
  };
}

/** Returns the fields that differ as `{field: {old, new}}`, the form of pending_changes.change. */
export function differences(before: AuditState, after: AuditState): Record<string, { old: Json; new: Json }> {
  const changed = Object.keys(after).filter((field) => before[field] !== after[field]);
  return Object.fromEntries(
    changed.map((field) => [field, { old: before[field] ?? null, new: after[field] ?? null }]),
  );
}

/** Returns all fields except the id as `{field: {new}}`, for an entity that does not exist yet. */
export function newValues(state: AuditState): Record<string, { new: Json }> {
  const fields = Object.entries(state).filter(([field]) => field !== 'id');
  return Object.fromEntries(fields.map(([field, value]) => [field, { new: value }]));
}
