import type { Client } from '@flagcast/client';
import { serverNowMs } from '../api/server-clock.js';

/** Times in milliseconds since the epoch, by the server's clock; null before the first message. */
export interface ConnectionInfo {
  readonly lastMessageAtMs: number | null;
  /** Up to here the server had read everything when it last said so. */
  readonly asOfMs: number | null;
}

/** Observes the messages of a client until it closes. Returns a function for the current state. */
export function watchConnection(client: Client): () => ConnectionInfo {
  let info: ConnectionInfo = { lastMessageAtMs: null, asOfMs: null };
  client.onMessage((message) => {
    const nowMs = serverNowMs();
    const { as_of: asOf, since = asOf } = message as { as_of?: string | null; since?: string };
    const asOfMs = typeof since === 'string' ? Date.parse(since) : (info.asOfMs ?? nowMs);
    info = { lastMessageAtMs: nowMs, asOfMs };
  });
  return () => info;
}
