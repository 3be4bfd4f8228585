/** Intervals and time-outs of open connections, in milliseconds. */
export interface ConnectionTimeouts {
  /** How often token expiry and slow connections are checked. Default 1,000. */
  readonly checkIntervalMs?: number | undefined;
  /** How often clients are pinged. One that has not answered by the next ping is dropped. Default 180,000. */
  readonly pingIntervalMs?: number | undefined;
  /** A connection to which nothing was sent in such an interval is sent an empty frame. Default 25,000. */
  readonly keepAliveIntervalMs?: number | undefined;
  /** How often the rights of all are checked again. Default 25,000: with the query, a revoked right ends within 30 s. */
  readonly recheckIntervalMs?: number | undefined;
  /** How often flagcast.v1 clients are sent a heartbeat. Default 15,000. */
  readonly heartbeatIntervalMs?: number | undefined;
  /** How long connections stay open while rights cannot be checked but events arrive. Default 60,000. */
  readonly recheckTimeoutMs?: number | undefined;
  /** How long a connection may be paused. Default 30,000. */
  readonly slowTimeoutMs?: number | undefined;
  /** How long plain connections stay open while the server is stale. Default 60,000. */
  readonly staleTimeoutMs?: number | undefined;
}

export type ResolvedConnectionTimeouts = { readonly [Name in keyof ConnectionTimeouts]-?: number };

const defaults: ResolvedConnectionTimeouts = {
  checkIntervalMs: 1_000,
  // Only finds clients that vanished without closing their connection.
  pingIntervalMs: 180_000,
  // Proxies close connections that are silent for a minute. An empty pong costs less than half of a ping with its answer.
  keepAliveIntervalMs: 25_000,
  recheckIntervalMs: 25_000,
  heartbeatIntervalMs: 15_000,
  recheckTimeoutMs: 60_000,
  slowTimeoutMs: 30_000,
  staleTimeoutMs: 60_000,
};

/** Replaces what is absent or undefined with the defaults. */
export function resolveConnectionTimeouts(timeouts: ConnectionTimeouts = {}): ResolvedConnectionTimeouts {
  const resolved: Record<keyof ConnectionTimeouts, number> = { ...defaults };
  for (const name of Object.keys(defaults) as (keyof ConnectionTimeouts)[]) {
    resolved[name] = timeouts[name] ?? defaults[name];
  }
  return resolved;
}
