import { FlagcastError } from './flagcast-error.js';

/** A channel in a request: by the environment's key until its id is known, by the id afterwards. */
export type ChannelAddress = Record<'project_id' | 'env', string> | Record<'project_id' | 'env_id', string>;

export interface ChannelName {
  /** The project's id. */
  readonly projectId: string;
  /** The environment's key, e.g. `prod`. */
  readonly env: string;
}

/** Asks the server about a channel. Rejects with a FlagcastError for an answer that is not 2xx. */
export type Request = (
  what: 'snapshot' | 'events',
  address: ChannelAddress,
  signal: AbortSignal,
  headers?: Record<string, string>,
) => Promise<Response>;

/** What the server's refusal of a request means, in the words of the close codes. */
export async function refusal(response: Response): Promise<FlagcastError> {
  const { status, headers } = response;
  const { code = `http_${status}`, message = code } = (await response.json().catch(() => ({}))) as {
    code?: string;
    message?: string;
  };
  // A refusal and the close code that belongs to it are 4100 apart.
  const closeCode = code === 'token_expired' ? 4001 : status === 429 || status >= 500 ? 4005 : 4100 + status;
  return new FlagcastError(code, message, closeCode, Number(headers.get('retry-after')) * 1_000 || 0);
}
