/** What is known of the line to the server. */
export interface LineView {
  /** When the server was last heard, in milliseconds since the epoch; null before it was. */
  readonly heardAtMs: number | null;
  /** When it last said up to where it has told everything; null before it did. */
  readonly cursorAtMs: number | null;
  /** What the server process calls itself; null before it said. */
  readonly server: string | null;
  readonly guarantee: string | null;
  /** How long the server may be silent, in milliseconds; null before it said. */
  readonly heartbeatIntervalMs: number | null;
}

export interface LineWatch {
  /** For the client to use: it does what the browser's does, and is listened to. */
  readonly WebSocket: typeof WebSocket;
  readonly getView: () => LineView;
}

/** Listens to the lines that a client opens, for those who want to know how the screen came to be. */
export function createLineWatch(): LineWatch {
  let view: LineView = {
    heardAtMs: null,
    cursorAtMs: null,
    server: null,
    guarantee: null,
    heartbeatIntervalMs: null,
  };
  const hear = ({ data }: MessageEvent<string>): void => {
    const nowMs = Date.now();
    view = { ...view, heardAtMs: nowMs };
    if (data.includes('"cursor":')) view = { ...view, cursorAtMs: nowMs };
    if (data.startsWith('{"type":"hello"')) {
      const hello = JSON.parse(data) as {
        server: string;
        guarantee: string;
        heartbeat_interval_ms: number;
      };
      const { server, guarantee, heartbeat_interval_ms: heartbeatIntervalMs } = hello;
      view = { ...view, server, guarantee, heartbeatIntervalMs };
    }
  };
  class WatchedWebSocket extends WebSocket {
    constructor(url: string | URL, protocols?: string | string[]) {
      super(url, protocols);
      this.addEventListener('message', hear);
    }
  }
  return { WebSocket: WatchedWebSocket, getView: () => view };
}
