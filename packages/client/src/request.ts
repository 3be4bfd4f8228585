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

/** Sends a request about a channel or the feed. Rejects with a FlagcastError if the response is not 2xx. */
export type Request = (
  resource: 'snapshot' | 'events',
  params: SubscriptionParams,
  init: { readonly signal: AbortSignal; readonly headers?: Record<string, string> },
) => Promise<Response>;

/** Creates the function that sends requests to the server with the current token. */
export function createRequest(
  baseUrl: string,
  fetch: typeof globalThis.fetch,
  getCurrentToken: () => string,
): Request {
  return async (resource, params, { headers, signal }) => {
    const response = await fetch(`${baseUrl}api/${resource}?${new URLSearchParams(params).toString()}`, {
      headers: { ...headers, Authorization: `Bearer ${getCurrentToken()}` },
      signal,
    });
    if (!response.ok) throw await errorFromResponse(response);
    return response;
  };
}

/** Converts an error response to a FlagcastError with the matching close code. */
async function errorFromResponse(response: Response): Promise<FlagcastError> {
  const { status, headers } = response;
  const { code = `http_${status}`, message = code } = (await response.json().catch(() => ({}))) as {
    code?: string;
    message?: string;
  };
  // PROTOCOL.md: the close code that corresponds to an HTTP status is 4100 + status.
  const closeCode =
    code === 'token_expired'
      ? 4001
      : status === 429 || (status >= 500 && status !== 501)
        ? 4005
        : 4100 + status;
  return new FlagcastError(code, message, closeCode, Number(headers.get('retry-after')) * 1_000 || 0);
}
