import type { ApprovalsSnapshot, EventMessage, PendingChange } from '#protocol';
import { isEqual, reuse } from '../emitter.js';
import type { ChannelStatus } from '../status.js';
import type { Model } from '../store.js';

/** The state of the approvals feed at one moment. Immutable: a part that has not changed is the same object as before. */
export interface ApprovalsState {
  readonly status: ChannelStatus;
  /** The open requests in all channels that the user may view, by id, oldest first. */
  readonly open: ReadonlyMap<string, PendingChange>;
  /**
   * Decided requests by id, oldest first: the newest 100 of the user as of the snapshot, and all that have been
   * decided since. At most 1,000.
   */
  readonly decided: ReadonlyMap<string, PendingChange>;
  /** The ids of the projects on whose requests the user may decide, except on own requests. */
  readonly mayDecide: ReadonlySet<string>;
  readonly lastEvent: EventMessage | null;
}

const maxDecided = 1_000;

/** Creates the model of the approvals feed. */
export function createApprovalsModel(): Model<ApprovalsState, ApprovalsSnapshot> {
  let open = new Map<string, PendingChange>();
  let decided = new Map<string, PendingChange>();
  let mayDecide: ReadonlySet<string> = new Set();
  let lastEvent: EventMessage | null = null;
  /** The maps that were published must not be modified. */
  let published: object[] = [];

  const copy = <Value>(map: Map<string, Value>): Map<string, Value> =>
    published.includes(map) ? new Map(map) : map;
  const remove = (id: string): void => {
    if (open.has(id)) (open = copy(open)).delete(id);
    if (decided.has(id)) (decided = copy(decided)).delete(id);
  };
  const add = (request: PendingChange): void => {
    const { id, status } = request;
    if (status === 'pending') {
      if (decided.has(id)) remove(id);
      // A request that is already known keeps its place.
      (open = copy(open)).set(id, request);
    } else {
      remove(id);
      (decided = copy(decided)).set(id, request);
      if (decided.size > maxDecided) decided.delete(decided.keys().next().value as string);
    }
  };

  return {
    createState(status) {
      published = [open, decided];
      return { status, open, decided, mayDecide, lastEvent };
    },
    replace(snapshot) {
      const before = [open, decided] as const;
      open = new Map();
      decided = new Map();
      for (const request of snapshot.pending_changes) add(request);
      open = reuse(before[0], open);
      decided = reuse(before[1], decided);
      if (!isEqual([...mayDecide], snapshot.may_decide)) mayDecide = new Set(snapshot.may_decide);
    },
    apply(event) {
      const { action, actor, timestamp, pending_change_id: id, pending_change: request } = event;
      lastEvent = event;
      // Without it, a snapshot will have it.
      if (!id || request === undefined) return;
      if (!request) remove(id);
      // The host records no cancellations: only the step says whose it is.
      else if (action === 'cancelled' && request.status === action) {
        add({ ...request, decided_by: actor, decided_at: timestamp });
      } else add(request);
    },
    contents: () => ({
      may_decide: [...mayDecide],
      pending_changes: [...decided.values(), ...open.values()],
    }),
  };
}
