import type pg from 'pg';
import { WebSocket } from 'ws';

/** The state of one environment that a page of Togglr shows. */
export interface TogglrPage {
  readonly features: readonly { readonly id: string; readonly enabled: boolean; readonly value: string }[];
  readonly schedules: readonly string[];
  /** The entities that wait for approval: each has a chip. */
  readonly chips: readonly string[];
}

/** What Togglr's REST API would answer, out of the same tables. */
export async function readTogglrPage(
  pool: pg.Pool,
  channel: { readonly projectId: string; readonly environmentId: string },
): Promise<TogglrPage> {
  const { rows } = await pool.query<{ page: TogglrPage }>(
    `SELECT json_build_object(
       'features', coalesce((
         SELECT json_agg(json_build_object('id', f.id, 'enabled', p.enabled, 'value', p.default_value) ORDER BY f.id)
         FROM features f JOIN feature_params p ON p.feature_id = f.id AND p.environment_id = $2
         WHERE f.project_id = $1), '[]'),
       'schedules', coalesce((
         SELECT json_agg(s.id ORDER BY s.id) FROM feature_schedules s JOIN features f ON f.id = s.feature_id
         WHERE f.project_id = $1), '[]'),
       'chips', coalesce((
         SELECT json_agg(e.entity_id ORDER BY e.entity_id)
         FROM pending_changes c JOIN pending_change_entities e ON e.pending_change_id = c.id
         WHERE c.environment_id = $2 AND c.status = 'pending'), '[]')
     ) AS page`,
    [channel.projectId, channel.environmentId],
  );
  const [row] = rows;
  if (row === undefined) throw new Error('no page');
  return row.page;
}

export interface TogglrWebClientOptions {
  /** The origin of the page and the server of its WebSocket: `http://host:port`. */
  readonly origin: string;
  readonly projectId: string;
  readonly environmentId: string;
  /** The token, which the client never refreshes. */
  readonly token: string;
  /** Asks Togglr's REST API for all that the page shows. */
  readonly fetchPage: () => Promise<TogglrPage>;
  /** Default 30,000, as in real life. */
  readonly pingIntervalMs?: number;
  /** The constant pause before a reconnect, in milliseconds. Default 1,000. */
  readonly reconnectPauseMs?: number;
}

/** The only types that it understands. */
const knownTypes = new Set(['feature_update', 'feature_updated', 'feature_pending', 'feature_deleted']);

/**
 * Simulates the web client of a Togglr with its faults: it shows the last fetched state, and fetches everything
 * after each known event and each connect. It cannot resume, reconnects without jitter, and does not
 * reconnect after the close code 1001.
 */
export class TogglrWebClient {
  /** What is on the screen; null before the first fetch. */
  page: TogglrPage | null = null;
  /** How often each close code ended a connection. */
  readonly closeCodes: Record<number, number> = {};
  /** The times in its pongs, less its own clock, in seconds. */
  readonly pongSkewsS: number[] = [];
  connections = 0;
  events = 0;
  fetches = 0;
  /** It has stopped for good. */
  gaveUp = false;
  readonly #options: Required<TogglrWebClientOptions>;
  #socket: WebSocket | null = null;
  #pinging: NodeJS.Timeout | undefined;
  #reconnecting: NodeJS.Timeout | undefined;
  #stopped = false;
  #stale = false;
  #fetching: Promise<void> | null = null;

  constructor(options: TogglrWebClientOptions) {
    this.#options = { pingIntervalMs: 30_000, reconnectPauseMs: 1_000, ...options };
    this.#connect();
  }

  /** Closes the page. */
  async stop(): Promise<void> {
    this.#stopped = true;
    clearInterval(this.#pinging);
    clearTimeout(this.#reconnecting);
    this.#socket?.terminate();
    await this.#fetching;
  }

  #connect(): void {
    const { origin, projectId, environmentId, token, pingIntervalMs } = this.#options;
    const query = new URLSearchParams({ project_id: projectId, env_id: environmentId, token });
    const url = `${origin.replace(/^http/, 'ws')}/api/ws?${query.toString()}`;
    const socket = new WebSocket(url, { origin });
    this.#socket = socket;
    socket.onopen = () => {
      this.connections += 1;
      this.#invalidate();
      this.#pinging = setInterval(() => socket.send('{"type":"ping"}'), pingIntervalMs);
    };
    socket.onmessage = ({ data }) => this.#receive(JSON.parse(data as string) as TogglrMessage);
    // The error is reported with the close event.
    socket.onerror = () => undefined;
    socket.onclose = ({ code }) => this.#closed(code);
  }

  #closed(code: number): void {
    this.closeCodes[code] = (this.closeCodes[code] ?? 0) + 1;
    clearInterval(this.#pinging);
    this.gaveUp = code === 1001;
    if (this.#stopped || this.gaveUp) return;
    this.#reconnecting = setTimeout(() => this.#connect(), this.#options.reconnectPauseMs);
  }

  #receive(message: TogglrMessage): void {
    if (message.type === 'pong') {
      this.pongSkewsS.push(Number(message.timestamp) - Date.now() / 1_000);
    } else if (knownTypes.has(message.type)) {
      this.events += 1;
      this.#invalidate();
    }
  }

  /** A response that is in transit may be older than the event. */
  #invalidate(): void {
    this.#stale = true;
    this.#fetching ??= this.#fetch().finally(() => (this.#fetching = null));
  }

  async #fetch(): Promise<void> {
    while (this.#stale && !this.#stopped) {
      this.#stale = false;
      this.fetches += 1;
      this.page = await this.#options.fetchPage();
    }
  }
}

interface TogglrMessage {
  readonly type: string;
  readonly timestamp: string | number;
}
