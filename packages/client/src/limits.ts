// The client's times and limits: a module without imports, because bundlers then put the numbers where they are used.

/** How long opening a transport may take until `hello`. */
export const attemptTimeoutMs = 10_000;
export const probeTimeoutMs = 5_000;
/** A heartbeat may be late by a tenth of the interval, and by this time. */
export const heartbeatDelayMs = 500;
/** How long it takes at most to notice that the clock has jumped, as after a sleep of the machine. */
export const clockCheckMs = 2_000;
/** A connection that was live for this long resets the backoff. */
export const stableAfterMs = 10_000;
export const drainSpreadMs = 2_000;
/** How long the first event streams stay before a WebSocket is tried again. */
export const firstRetryMs = 3_000;

/** Event streams are used after this many WebSockets in a row. */
export const maxWebSocketFailures = 3;

/** Channels that are opened together get one stream, not one after the other. */
export const gatherMs = 20;

/** How long a request for a snapshot may take. */
export const requestTimeoutMs = 30_000;
export const refetchSpreadMs = 500;

/** How many ids of applied events a store remembers. */
export const maxAppliedIds = 4_096;
