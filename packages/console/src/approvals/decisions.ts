import type { EventMessage } from '@flagcast/client';
import { maxChannels } from '@flagcast/protocol';
import type { OpenChange, Project } from '../api/types.js';

/** The decision on a request. */
export interface Decision {
  /** `approved`, `rejected` or `cancelled`. */
  readonly status: string;
  readonly by: string | null;
  /** The id of the event; ids of the event log are ascending numbers. */
  readonly eventId: string;
}

/** By the id of the request. */
export type Decisions = ReadonlyMap<string, Decision>;

/** The decisions after an event: a decision is added, a request that was opened again is removed. */
export function decisionsAfter(decisions: Decisions, event: EventMessage): Decisions {
  const { id: eventId, pending_change_id: id, action, actor } = event;
  if (id === null) return decisions;
  if (action !== 'pending' && action !== 'updated') {
    return new Map(decisions).set(id, { status: action, by: actor, eventId });
  }
  const decision = decisions.get(id);
  // A late event from before the decision does not reopen the request.
  if (decision === undefined || Number(eventId) < Number(decision.eventId)) return decisions;
  return new Map([...decisions].filter(([decidedId]) => decidedId !== id));
}

/** The pending requests, and `all`: also those decided since they were known. Both newest first. */
export function sortRequests(
  listed: readonly OpenChange[],
  known: Iterable<OpenChange>,
  decisions: Decisions,
): { readonly open: readonly OpenChange[]; readonly all: readonly OpenChange[] } {
  const open = listed.filter(({ id }) => !decisions.has(id));
  const openIds = new Set(open.map(({ id }) => id));
  const all = [...known].filter(({ id }) => openIds.has(id) || decisions.has(id));
  all.sort((one, other) =>
    one.created_at === other.created_at ? 0 : one.created_at < other.created_at ? 1 : -1,
  );
  return { open, all };
}

/** An environment by the id of its project and its key. */
export interface EnvironmentName {
  readonly projectId: string;
  readonly env: string;
}

/**
 * The environments with approvals: the one on the screen, the guarded ones, and those with pending requests, as many as
 * a connection can have besides the channel of the page.
 */
export function environmentsWithApprovals(
  here: EnvironmentName,
  projects: readonly Project[],
  listed: readonly OpenChange[],
): EnvironmentName[] {
  const nameOf = ({ projectId, env }: EnvironmentName): string => `${projectId}/${env}`;
  const withRequests = new Set(
    listed.map(({ project_id: projectId, environment: env }) => nameOf({ projectId, env })),
  );
  const watched = projects.flatMap(({ id: projectId, environments }) =>
    environments
      .map(({ key: env, guarded }) => ({ projectId, env, guarded }))
      .filter((each) => each.guarded || withRequests.has(nameOf(each))),
  );
  return [here, ...watched.filter((each) => nameOf(each) !== nameOf(here))]
    .map(({ projectId, env }) => ({ projectId, env }))
    .slice(0, maxChannels - 1);
}
