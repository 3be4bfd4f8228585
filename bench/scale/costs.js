/**
 * What one server costs, as it was measured on the machine of docs/PERFORMANCE.md; `npm run bench -- fleet`,
 * `fanout`, `idle` and `storm` give these figures again. The formulas below are all that docs/SCALE.md says.
 */
export const costs = {
  /** Transactions that a reader is woken for, for each event: the writers of `fleet` commit several at once. */
  commitsPerEvent: 0.665,
  /** How long a read of the database takes, in seconds. */
  readSeconds: 0.0011,
  /** Reads that no commit asks for: one a second. */
  pollsPerSecond: 1,
  /** Queries of whoever reads, beside the reads: the floor once a poll, and whether LISTEN is heard. */
  otherQueriesOfReader: 1.96,
  /** Queries of each server that follows: rights, and whether it may take over. */
  queriesOfFollower: 0.3,
  /** Messages through NATS for each event: those of the reader, and what each further server gets of it. */
  messagesOfReader: 4.14,
  messagesOfFollower: 1.49,
  /** Processor time of an event beside its deliveries, and of each delivery, in microseconds. */
  eventMicroseconds: 1_400,
  deliveryMicroseconds: 10,
  /** Processor time for each idle connection and second, in microseconds: between a plain one (1.1) and flagcast.v1 (2.6). */
  idleMicroseconds: 1.3,
  /** Memory of a server without connections, and of each connection, in bytes. */
  serverBytes: 85e6,
  connectionBytes: 7_000,
  /** How long one client that comes back keeps a server busy: from `storm` with 5,000, whose clients have a core too. */
  comebackMilliseconds: 0.65,
  /** From the end of a follower's patience until its first commit: the lock, a read, two answers of NATS; assumed. */
  electionSeconds: 0.05,
};

/**
 * `servers` have `connections` together, in channels of `channelSize`, and `events` are committed in a second, each
 * for one channel.
 *
 * @typedef {{
 *   readonly servers: number,
 *   readonly relay: boolean,
 *   readonly connections: number,
 *   readonly channelSize: number,
 *   readonly events: number,
 * }} Fleet
 */

/**
 * Reads in a second of one that reads: commits that come during a read share the next one.
 *
 * @param {number} events in a second
 */
export function readsPerSecond(events) {
  const commits = events * costs.commitsPerEvent;
  return commits / (1 + commits * costs.readSeconds) + costs.pollsPerSecond;
}

/**
 * What a fleet asks of its database and of NATS, and what each server takes.
 *
 * @param {Fleet} fleet
 */
export function costOf({ servers, relay, connections, channelSize, events }) {
  const reads = readsPerSecond(events);
  const ofReader = reads + costs.otherQueriesOfReader;
  const queries = relay ? ofReader + (servers - 1) * costs.queriesOfFollower : servers * ofReader;
  const messages = relay ? events * (costs.messagesOfReader + (servers - 1) * costs.messagesOfFollower) : 0;
  const ownConnections = connections / servers;
  // A channel's connections are spread over the servers; a server that has none of them has next to nothing to do.
  const deliveries = (events * channelSize) / servers;
  const concerned = events * Math.min(1, channelSize);
  const cpu =
    (concerned * costs.eventMicroseconds +
      deliveries * costs.deliveryMicroseconds +
      ownConnections * costs.idleMicroseconds) /
    1e6;
  return {
    reads: relay ? reads : servers * reads,
    queries,
    messages,
    deliveries: deliveries * servers,
    coresOfServer: cpu,
    bytesOfServer: costs.serverBytes + ownConnections * costs.connectionBytes,
  };
}
