import type { Client } from '@flagcast/client';

/** What is known of the line to the server. */
export interface ConnectionInfo {
  /** When the server was last heard, in milliseconds since the epoch; null before it was. */
  readonly lastMessageAtMs: number | null;
  /** When it last said up to where it has told everything; null before it did. */
  readonly cursorAtMs: number | null;
  /** What the server said of itself; null before it did. */
  readonly hello: ServerFacts | null;
}

/** What a server says of itself. */
interface ServerFacts {
  /** What the server process calls itself. */
  readonly server: string;
  readonly guarantee: string;
  /** Why this one holds. */
  readonly guaranteeReason: string;
  /** For how long a transaction may be open without its changes being missed, in milliseconds; null where that does not matter. */
  readonly overlapMs: number | null;
  /** Whether it can read the state of the flags; without it there are events alone. */
  readonly hasState: boolean;
}

/** Listens to what a client hears, for those who want to know how the screen came to be. Returns what is known now. */
export function watchConnection(client: Client): () => ConnectionInfo {
  let view: ConnectionInfo = { lastMessageAtMs: null, cursorAtMs: null, hello: null };
  // It goes with the client.
  client.onMessage((message) => {
    const nowMs = Date.now();
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
