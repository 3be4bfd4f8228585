/** What the number of sessions that a server needs depends on. */
export interface SessionNeeds {
  /** Whether it accepts writes. */
  readonly writes: boolean;
  /** Whether it shares a reader through a relay. */
  readonly relay: boolean;
}

/** How many sessions of the database a server has for each purpose. */
export interface SessionBudget {
  /** The reader, the listener, the lock of the relay, and one for retention or to replace a lost one. */
  readonly reader: number;
  readonly authorization: number;
  readonly requests: number;
  readonly writes: number;
}

export const defaultDatabaseConnections = 10;

/** The connection limit of the role that install creates: two servers, and one that replaces one of them. */
export const roleConnectionLimit = 3 * defaultDatabaseConnections;

/** How many sessions of the database one server needs. */
export function minServerConnections({ writes, relay }: SessionNeeds): number {
  return 5 + (writes ? 1 : 0) + (relay ? 1 : 0);
}

/**
 * How many sessions `flagcast serve` needs with all its workers: one for the command itself, and the share of one more
 * worker, because a replacement starts before the old worker ends.
 */
export function minCommandConnections(workers: number, needs: SessionNeeds): number {
  return 1 + (workers === 1 ? 1 : workers + 1) * minServerConnections(needs);
}

/** How many of the command's connections each of its servers gets. */
export function connectionsOfServer(connections: number, workers: number): number {
  return Math.floor((connections - 1) / (workers === 1 ? 1 : workers + 1));
}

/**
 * Divides the sessions of one server.
 *
 * @throws Error if they are too few.
 */
export function divideConnections(connections: number, needs: SessionNeeds): SessionBudget {
  const least = minServerConnections(needs);
  if (!Number.isInteger(connections) || connections < least) {
    throw new Error(
      `${connections} connections to the database are too few: give database.connections ${least} or more`,
    );
  }
  const budget = {
    reader: 3 + (needs.relay ? 1 : 0),
    requests: 1,
    authorization: 1,
    writes: needs.writes ? 1 : 0,
  };
  const growing = (['requests', 'authorization', 'writes'] as const).filter((purpose) => budget[purpose] > 0);
  for (let left = connections - least; left > 0; left -= 1) {
    const [smallest = 'requests'] = growing.toSorted((a, b) => budget[a] - budget[b]);
    budget[smallest] += 1;
  }
  return budget;
}
