import type { Client } from '@flagcast/client';
import { serverNowMs } from '../api/server-clock.js';

/** The state of the connection to the server. */
export interface ConnectionInfo {
  /** Time of the last message, in milliseconds since the epoch; null before the first one. */
  readonly lastMessageAtMs: number | null;
  /** Time of the last message with a cursor, in milliseconds since the epoch; null before the first one. */
  readonly cursorAtMs: number | null;
  /** From the server's `hello`; null before it. */
  readonly hello: ServerFacts | null;
}

/** The content of `hello`. */
interface ServerFacts {
  /** The id of the server process. */
  readonly server: string;
  readonly guarantee: string;
  /** The reason for this guarantee. */
  readonly guaranteeReason: string;
  /** With the guarantee `overlap`: the longest transaction whose changes are not missed, in milliseconds; else null. */
  readonly overlapMs: number | null;
  /** Whether the server can read flags; without them there are only live events. */
  readonly hasState: boolean;
}

/** Observes the messages of a client until it closes. Returns a function for the current state. */
export function watchConnection(client: Client): () => ConnectionInfo {
  let view: ConnectionInfo = { lastMessageAtMs: null, cursorAtMs: null, hello: null };
  client.onMessage((message) => {
    const nowMs = serverNowMs();
    view = { ...view, lastMessageAtMs: nowMs };
    if ('cursor' in message) view = { ...view, cursorAtMs: nowMs };
    if ('type' in message && message.type === 'hello' && 'server' in message) {
      const { server, guarantee, guarantee_reason: guaranteeReason, overlap_ms: overlapMs } = message;
      view = {
        ...view,
        hello: { server, guarantee, guaranteeReason, overlapMs, hasState: message.embedded_state },
      };
    }
  });
  return () => view;
}
