/** The periods in which connected peers are looked after. */
export interface ConnectionTimeouts {
  /** How often expiry and slowness are looked at, in milliseconds. Default 1,000. */
  sweepIntervalMs?: number;
  /** How often peers are pinged; one that has not answered by the next time is dropped. In milliseconds. Default 180,000. */
  pingIntervalMs?: number;
  /** How often those that were sent nothing since the last time are sent an empty frame, so that none is left in silence for twice as long. In milliseconds. Default 25,000. */
  quietIntervalMs?: number;
  /** How often the rights of all are checked again, in milliseconds. Default 25,000, so that 30 s are kept with the query's time. */
  recheckIntervalMs?: number;
  /** How often flagcast.v1 peers are told where they stand, in milliseconds. Default 15,000. */
  heartbeatIntervalMs?: number;
  /** How long events go on to peers whose rights cannot be checked, in milliseconds. Default 60,000. */
  recheckPatienceMs?: number;
  /** How long a peer may stay paused, in milliseconds. Default 30,000. */
  slowTimeoutMs?: number;
  /** How long plain connections stay open while the server is stale, in milliseconds. Default 60,000. */
  staleTimeoutMs?: number;
}
