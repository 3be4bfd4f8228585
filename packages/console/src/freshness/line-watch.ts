import type { Client } from '@flagcast/client';

/** What is known of the line to the server. */
export interface LineView {
  /** When the server was last heard, in milliseconds since the epoch; null before it was. */
  readonly heardAtMs: number | null;
  /** When it last said up to where it has told everything; null before it did. */
  readonly cursorAtMs: number | null;
  /** What the server process calls itself; null before it said. */
  readonly server: string | null;
  readonly guarantee: string | null;
}

/** Listens to what a client hears, for those who want to know how the screen came to be. Returns what is known now. */
export function watchLine(client: Client): () => LineView {
  let view: LineView = { heardAtMs: null, cursorAtMs: null, server: null, guarantee: null };
  // It goes with the client.
  client.onMessage((message) => {
    const nowMs = Date.now();
    view = { ...view, heardAtMs: nowMs };
    if ('cursor' in message) view = { ...view, cursorAtMs: nowMs };
    if ('type' in message && message.type === 'hello' && 'server' in message) {
      const { server, guarantee } = message;
      view = { ...view, server, guarantee };
    }
  });
  return () => view;
}
