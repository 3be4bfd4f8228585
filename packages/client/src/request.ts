import { FlagcastError } from './flagcast-error.js';

/** Identifies a channel: one environment of one project. */
export interface ChannelKey {
  /** The project's id. */
  readonly projectId: string;
  /** The environment's key, e.g. `prod`. */
  readonly env: string;
}

/**
 * A channel or the approvals feed in the parameters of a request. A channel is named by the environment's key until its
 * id is known, then by its id.
 */
export type SubscriptionParams =
  | { readonly project_id: string; readonly env: string }
  | { readonly project_id: string; readonly env_id: string }
  | { readonly feed: 'approvals' };

/** Sends a request to `api/<resource>`. Rejects with a FlagcastError if the response is not 2xx. */
export type Request = (
  resource: string,
  init: Omit<RequestInit, 'headers'> & { readonly headers?: Record<string, string> },
) => Promise<Response>;

/** Creates the function that sends requests to the server with the current token. */
export function createRequest(
  getBaseUrl: () => string,
  fetch: typeof globalThis.fetch,
  getCurrentToken: () => string,
): Request {
  return async (resource, init) => {
    const response = await fetch(`${getBaseUrl()}api/${resource}`, {
      ...init,
      headers: { ...init.headers, Authorization: `Bearer ${getCurrentToken()}` },
    });
    const { ok, status, headers, url } = response;
    if (ok) return response;
    // The error has the matching close code. Only a refusal of the server itself, with its JSON code, is final: a proxy
    // answers with its own 403 or 404 while a deployment is in progress.
    const { code, message } = (await response.json().catch(() => ({}))) as Record<string, unknown>;
    const isOurs = typeof code === 'string' && code !== 'not_found';
    // PROTOCOL.md: the close code that corresponds to an HTTP status is 4100 + status.
    const closeCode =
      code === 'token_expired'
        ? 4001
        : isOurs && status !== 429 && (status < 500 || status === 501)
          ? 4100 + status
          : 4005;
    throw new FlagcastError(
      typeof code === 'string' ? code : `http_${status}`,
      isOurs ? String(message) : `${url} answered with ${status}: is url the address of the server?`,
      // It may be a date, or longer than a timer can be.
      { closeCode, retryAfterMs: Math.max(0, Math.min(Number(headers.get('retry-after')) || 0, 60)) * 1_000 },
    );
  };
}
