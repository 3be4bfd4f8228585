import type { ListeningUrls, ServerSettings } from './server.js';

export interface WorkerSettings {
  /** Its place, from 1: whoever replaces it has the same. */
  readonly worker: number;
  readonly server: ServerSettings;
  /** Whether it listens before it has read the database: so does one that nobody else listens beside. */
  readonly listensAtOnce: boolean;
  /** Whether the database is known to have what the server needs; else `begin` tells. */
  readonly begun: boolean;
}

/** What the first process says to a worker. */
export type ToWorker =
  | { readonly type: 'settings'; readonly settings: WorkerSettings }
  | { readonly type: 'begin' }
  /** Who is connected may stay for `graceMs`, who wants to be is sent to others at once. */
  | { readonly type: 'stop'; readonly graceMs: number }
  /** Asks for its metrics. */
  | { readonly type: 'collect'; readonly request: number }
  /** Answers `gather`: the metrics of all, in Prometheus' text format. */
  | { readonly type: 'gathered'; readonly request: number; readonly text: string };

/** What a worker says to the first process. */
export type FromWorker =
  /** It hears from now on; what was said before it did not. */
  | { readonly type: 'loaded' }
  | { readonly type: 'listening'; readonly urls: ListeningUrls }
  /** It listens and has read the database. */
  | { readonly type: 'ready' }
  /** It ends, because of this. */
  | { readonly type: 'failed'; readonly reason: string }
  | { readonly type: 'collected'; readonly request: number; readonly metrics: readonly object[] }
  /** Somebody asked it for /metrics. */
  | { readonly type: 'gather'; readonly request: number };
