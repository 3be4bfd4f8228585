/** The periods in which connected peers are looked after. */
export interface ConnectionTimeouts {
  /** How often expiry and slowness are looked at, in milliseconds. Default 1,000. */
  readonly sweepIntervalMs?: number | undefined;
  /** How often peers are pinged; one that has not answered by the next time is dropped. In milliseconds. Default 180,000. */
  readonly pingIntervalMs?: number | undefined;
  /** How often those that were sent nothing since the last time are sent an empty frame, so that none is left in silence for twice as long. In milliseconds. Default 25,000. */
  readonly quietIntervalMs?: number | undefined;
  /** How often the rights of all are checked again, in milliseconds. Default 25,000, so that 30 s are kept with the query's time. */
  readonly recheckIntervalMs?: number | undefined;
  /** How often flagcast.v1 peers are told where they stand, in milliseconds. Default 15,000. */
  readonly heartbeatIntervalMs?: number | undefined;
  /** How long events go on to peers whose rights cannot be checked, in milliseconds. Default 60,000. */
  readonly recheckPatienceMs?: number | undefined;
  /** How long a peer may stay paused, in milliseconds. Default 30,000. */
  readonly slowTimeoutMs?: number | undefined;
  /** How long plain connections stay open while the server is stale, in milliseconds. Default 60,000. */
  readonly staleTimeoutMs?: number | undefined;
}

/** Proxies close connections that are silent for a minute, so the quiet interval is shorter. */
const defaults = {
  sweepIntervalMs: 1_000,
  quietIntervalMs: 25_000,
  pingIntervalMs: 180_000,
  recheckIntervalMs: 25_000,
  recheckPatienceMs: 60_000,
  heartbeatIntervalMs: 15_000,
  slowTimeoutMs: 30_000,
  staleTimeoutMs: 60_000,
};

export type ResolvedConnectionTimeouts = { readonly [Name in keyof ConnectionTimeouts]-?: number };

/** Replaces what is absent or undefined with the defaults. */
export function resolveConnectionTimeouts(timeouts: ConnectionTimeouts = {}): ResolvedConnectionTimeouts {
  const resolved: Record<keyof ConnectionTimeouts, number> = { ...defaults };
  for (const name of Object.keys(defaults) as (keyof ConnectionTimeouts)[])
    resolved[name] = timeouts[name] ?? defaults[name];
  return resolved;
}
