import type { PendingChange } from '@flagcast/client';
import { isProduction } from '../api/environments.js';
import { parseJson, writeJson } from '../api/exact-json.js';
import type { Messages } from '../i18n/en.js';
import { visible } from '../i18n/visible.js';
import type { ChangedEntity, Me, OpenChange, Project, RequestedField } from '../api/types.js';

/** What the rights of a user on a request depend on. */
export interface Viewer {
  readonly me: Me;
  readonly projects: readonly Project[];
  /** The projects on whose requests the user may decide, except on own requests. */
  readonly mayDecide: ReadonlySet<string>;
}

/** A project or an environment; without both, all. */
export interface Place {
  readonly projectId?: string;
  readonly environmentId?: string;
}

/** Whether the request belongs to the place. */
export function isIn(change: OpenChange, { projectId, environmentId }: Place): boolean {
  return (
    (projectId === undefined || change.project_id === projectId) &&
    (environmentId === undefined || change.environment_id === environmentId)
  );
}

/** The environment of a request; undefined if it does not exist any more. */
function environmentOf(change: OpenChange | PendingChange, projects: readonly Project[]) {
  const project = projects.find(({ id }) => id === change.project_id);
  return { project, environment: project?.environments.find(({ id }) => id === change.environment_id) };
}

/** The pending request to change the flag itself, in any environment: there is at most one. */
export function findRequest(open: readonly OpenChange[], featureId: string): OpenChange | undefined {
  return open.find(({ entities }) =>
    entities.some(({ entity, entity_id: id }) => entity === 'feature' && id === featureId),
  );
}

/** A request of the approvals feed as the REST API would send it to the user, without the current values. */
export function toOpenChange(change: PendingChange, { me, projects, mayDecide }: Viewer): OpenChange {
  const { project, environment } = environmentOf(change, projects);
  const { user } = me;
  const isOpen = change.status === 'pending';
  const own =
    change.requested_by_id === null
      ? change.requested_by === user.username
      : change.requested_by_id === user.id;
  const key = environment?.key ?? change.environment ?? change.environment_id;
  return {
    ...change,
    project: project?.name ?? '',
    environment: key,
    environment_name: environment?.name ?? key,
    // Only the details of a request say so.
    requester_active: true,
    entities: change.entities.map((entity) => ({
      ...entity,
      diff: entity.diff.map((field) => ({
        field: field.field,
        old: parseJson(field.old),
        new: parseJson(field.new),
      })),
    })),
    own,
    may_decide: isOpen && !own && mayDecide.has(change.project_id),
    may_cancel: isOpen && (own || user.is_superuser),
  };
}

/** A request that the feed no longer has: nothing is known but what it was. */
export function withoutRights(change: OpenChange): OpenChange {
  if (change.status !== 'pending') return change;
  return { ...change, status: 'gone', may_decide: false, may_cancel: false };
}

/** What a request changes of a flag: its first entity that belongs to one, which names the flag. Undefined if none does. */
export function flagOf({ entities }: OpenChange): ChangedEntity | undefined {
  return entities.find(({ feature_id: id }) => id !== null);
}

/** What a decision sends back: the server refuses it if anything of it has changed. */
export function seenOf({ version, entities }: OpenChange): object {
  const versions = entities.flatMap(({ feature_id: id, feature_version: seen }) =>
    id === null || seen === null ? [] : [[id, seen] as const],
  );
  return { version, feature_versions: Object.fromEntries(versions) };
}

/** Equal for two states of a request between which nothing has changed. */
export function stampOf(change: OpenChange): string {
  return JSON.stringify([change.status, seenOf(change)]);
}

/**
 * Whether an approval needs a confirmation: it changes a guarded environment, one for production, or one that is not
 * known.
 */
export function needsConfirmation(change: OpenChange, projects: readonly Project[]): boolean {
  const { environment } = environmentOf(change, projects);
  return (
    environment === undefined ||
    environment.guarded ||
    isProduction(environment) ||
    isProduction({ key: change.environment })
  );
}

/** Whether two values are shown alike. */
function isSame(one: unknown, other: unknown): boolean {
  return writeJson(one ?? '') === writeJson(other ?? '');
}

/** Whether the field has another value now than when the change was requested. */
export function hasMoved(field: RequestedField): boolean {
  return field.current !== undefined && !isSame(field.current, field.old);
}

/** The names of the fields of `entity` that differ from those of the state of the request before. */
export function changedFields(entity: ChangedEntity, before: OpenChange | null): ReadonlySet<string> {
  if (before === null) return new Set();
  const known = before.entities.find(({ entity_id: id }) => id === entity.entity_id)?.diff ?? [];
  const isKnown = (field: RequestedField): boolean =>
    known.some(
      (other) =>
        other.field === field.field &&
        isSame(other.new, field.new) &&
        isSame(other.current ?? other.old, field.current ?? field.old),
    );
  return new Set(entity.diff.filter((field) => !isKnown(field)).map(({ field }) => field));
}

export interface Conflict {
  readonly entity_id: string;
  readonly field: string;
  readonly current: unknown;
}

/** The request with the current values of the fields that have changed since. */
export function withConflicts(change: OpenChange, conflicts: readonly Conflict[]): OpenChange {
  const entities = change.entities.map((entity) => ({
    ...entity,
    diff: entity.diff.map((each) => {
      const conflict = conflicts.find(
        ({ entity_id: id, field }) => id === entity.entity_id && field === each.field,
      );
      return conflict === undefined ? each : { ...each, current: conflict.current };
    }),
  }));
  return { ...change, entities };
}

/** E.g. `Approved by alice`. */
export function decisionText({ approvals }: Messages, status: string, by: string | null): string {
  const decided: Readonly<Record<string, (who: string | null) => string>> = approvals.decided;
  return (Object.hasOwn(decided, status) ? decided[status]?.(by) : undefined) ?? visible(status);
}

/** What has happened, in one line: `bob requested a change to X`, or `X: approved by alice`. */
export function concernText(change: OpenChange, t: Messages): string {
  const { status, requested_by: by, decided_by: decidedBy } = change;
  const name = flagOf(change)?.feature_name ?? null;
  if (status === 'pending') return t.approvals.cardLabel(by, name);
  return `${visible(name ?? t.approvals.deletedFeature)}: ${decisionText(t, status, decidedBy)}`;
}
