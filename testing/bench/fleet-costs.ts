/**
 * Costs of a server, measured with `npm run bench -- fleet`, `fanout`, `idle` and `storm` on the machine of
 * docs/PERFORMANCE.md, which has the formulas. `fleet` and `scale` compare them with what they measure.
 */
export const costs = {
  /** Wake-ups of a reader for each event: the writers of `fleet` commit several events in a transaction. */
  commitsPerEvent: 0.665,
  /** Duration of a read, in seconds. */
  readSeconds: 0.0011,
  /** Reads without a commit. */
  pollsPerSecond: 1,
  /** Queries per second of a reading server besides its reads: the retention floor, and the check of LISTEN. */
  otherQueriesOfReader: 1.96,
  /** Queries per second of a follower: rights, and the leader lock. */
  queriesOfFollower: 0.3,
  /** NATS messages for each event: those of the leader, and those of each follower. */
  messagesOfReader: 4.14,
  messagesOfFollower: 1.49,
  /** Processor time of an event without its deliveries, and of a delivery, in microseconds. */
  eventMicroseconds: 1_400,
  deliveryMicroseconds: 10,
  /** Processor time of an idle connection per second, in microseconds: plain connections take 1.1, flagcast.v1 2.6. */
  idleMicroseconds: 1.3,
  /** Memory of a server without connections, and of each connection, in bytes. */
  serverBytes: 85e6,
  connectionBytes: 7_000,
} as const;

export interface Fleet {
  readonly servers: number;
  readonly relay: boolean;
  /** The connections of all servers. */
  readonly connections: number;
  /** The connections of a channel. */
  readonly channelSize: number;
  /** Committed per second, each in one channel. */
  readonly events: number;
}

/** Returns the load of a fleet on its database and on NATS per second, and the cost of each server. */
export function costOf({ servers, relay, connections, channelSize, events }: Fleet) {
  const commits = events * costs.commitsPerEvent;
  // Commits during a read share the next read.
  const reads = commits / (1 + commits * costs.readSeconds) + costs.pollsPerSecond;
  const ofReader = reads + costs.otherQueriesOfReader;
  const ownConnections = connections / servers;
  // A channel's connections are distributed over the servers; a server without any of them has almost no work.
  const ownDeliveries = (events * channelSize) / servers;
  const microseconds =
    events * Math.min(1, channelSize) * costs.eventMicroseconds +
    ownDeliveries * costs.deliveryMicroseconds +
    ownConnections * costs.idleMicroseconds;
  return {
    reads: relay ? reads : servers * reads,
    queries: relay ? ofReader + (servers - 1) * costs.queriesOfFollower : servers * ofReader,
    messages: relay ? events * (costs.messagesOfReader + (servers - 1) * costs.messagesOfFollower) : 0,
    deliveries: events * channelSize,
    coresOfServer: microseconds / 1e6,
    bytesOfServer: costs.serverBytes + ownConnections * costs.connectionBytes,
  };
}
