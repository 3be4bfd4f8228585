/**
 * Costs of a server, measured on the machine of docs/PERFORMANCE.md with `npm run bench -- fleet`, `fanout`, `idle` and
 * `storm`. That page has the formulas below.
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
  /** Processor time of a reconnect, from `storm` with 5,000 clients. */
  reconnectMilliseconds: 0.65,
  /** From a follower's time-out to its first published read: the lock, a read, two NATS round trips. Assumed. */
  electionSeconds: 0.05,
};

/**
 * `connections`: total of all servers. `channelSize`: connections of a channel. `events`: committed per second, each in one
 * channel.
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
 * Returns the reads per second of a reader: commits during a read share the next read.
 *
 * @param {number} events per second
 */
export function readsPerSecond(events) {
  const commits = events * costs.commitsPerEvent;
  return commits / (1 + commits * costs.readSeconds) + costs.pollsPerSecond;
}

/**
 * Returns the load of a fleet on its database and on NATS, and the cost of each server.
 *
 * @param {Fleet} fleet
 */
export function costOf({ servers, relay, connections, channelSize, events }) {
  const reads = readsPerSecond(events);
  const ofReader = reads + costs.otherQueriesOfReader;
  const queries = relay ? ofReader + (servers - 1) * costs.queriesOfFollower : servers * ofReader;
  const messages = relay ? events * (costs.messagesOfReader + (servers - 1) * costs.messagesOfFollower) : 0;
  const ownConnections = connections / servers;
  // A channel's connections are distributed over the servers; a server without any of them has almost no work.
  const deliveries = (events * channelSize) / servers;
  const relevantEvents = events * Math.min(1, channelSize);
  const cpu =
    (relevantEvents * costs.eventMicroseconds +
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
