import { parseJson } from './exact-json.js';

/** The server's answer to a request that it refused, or null where no answer came. */
export class ApiError extends Error {
  override readonly name = 'ApiError';
  /** 0 where the server was not reached. */
  readonly status: number;
  /** The code of the server, e.g. `stale_version`. Without one: `unreachable`, or `outcome_unknown` for a change. */
  readonly code: string;
  /** What is wrong with each field, by its name. */
  readonly fields: Readonly<Record<string, string>>;
  /** The whole answer: some codes bring more than a message. */
  readonly body: Readonly<Record<string, unknown>>;
  /** How long the server asks to wait, in milliseconds; 0 where it does not say. */
  readonly retryAfterMs: number;

  constructor(status: number, body: Readonly<Record<string, unknown>>, retryAfterMs = 0) {
    super(typeof body['message'] === 'string' ? body['message'] : `HTTP ${status}`);
    this.status = status;
    this.code = String(body['code']);
    this.fields = (body['fields'] as Record<string, string> | undefined) ?? {};
    this.body = body;
    this.retryAfterMs = retryAfterMs;
  }
}

/** Whether the server says that its database does not have what was asked for, and never will. */
export function isNotAvailable(error: unknown): boolean {
  return error instanceof ApiError && error.code === 'not_available';
}

export interface Api {
  /** Resolves with the answer's status and body. Rejects with an ApiError. */
  // oxlint-disable-next-line typescript/no-unnecessary-type-parameters -- what an address answers is the server's word: the caller names it
  readonly send: <Answer>(
    method: 'GET' | 'POST' | 'PATCH' | 'DELETE',
    path: string,
    body?: unknown,
  ) => Promise<{ readonly status: number; readonly body: Answer }>;
  /** `send` of a GET, for its body. Asks again where the user has too many requests under way. */
  readonly get: <Answer>(path: string) => Promise<Answer>;
}

const requestTimeoutMs = 30_000;
const maxAttempts = 3;
/** Pages that were refused together do not ask again together. */
const retrySpreadMs = 1_000;

/** Empty where the answer is no JSON, as from a proxy. */
function bodyOf(text: string): Record<string, unknown> {
  try {
    return parseJson(text) as Record<string, unknown>;
  } catch {
    return {};
  }
}

/**
 * Requests to the server that served the page. `token` gives the token to send, null without one;
 * `onTokenRefused` is called when the server no longer takes it.
 */
export function createApi(options: {
  /** What stands before `/api` in the addresses of the server; mostly empty. */
  readonly basePath: string;
  readonly token: () => string | null;
  readonly onTokenRefused: () => void;
}): Api {
  // oxlint-disable-next-line typescript/no-unnecessary-type-parameters -- as above
  const send: Api['send'] = async <Answer>(method: string, path: string, body?: unknown) => {
    const token = options.token();
    // A change may have arrived, and its response been lost.
    const code = method === 'GET' || path.startsWith('/api/auth/') ? 'unreachable' : 'outcome_unknown';
    let response: Response;
    let text: string;
    try {
      response = await fetch(options.basePath + path, {
        method,
        headers: {
          ...(token === null ? {} : { Authorization: `Bearer ${token}` }),
          ...(body === undefined ? {} : { 'Content-Type': 'application/json' }),
        },
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
        signal: AbortSignal.timeout(requestTimeoutMs),
      });
      // Rejects where the connection ends before the answer does.
      text = await response.text();
    } catch (error) {
      throw new ApiError(0, { code, message: String(error) });
    }
    const answer = bodyOf(text);
    if (response.ok) return { status: response.status, body: answer as Answer };
    const retryAfterMs = Number(response.headers.get('retry-after')) * 1_000 || 0;
    const refusal = new ApiError(response.status, { code, ...answer }, retryAfterMs);
    if (
      response.status === 401 &&
      token !== null &&
      (refusal.code.startsWith('token_') || refusal.code === 'unknown_user')
    ) {
      options.onTokenRefused();
    }
    throw refusal;
  };
  // oxlint-disable-next-line typescript/no-unnecessary-type-parameters -- as above
  const get: Api['get'] = async <Answer>(path: string) => {
    for (let attempt = 1; ; attempt += 1) {
      try {
        return (await send<Answer>('GET', path)).body;
      } catch (error) {
        const isRepeatable = error instanceof ApiError && error.code === 'too_many_requests';
        if (!isRepeatable || attempt === maxAttempts) throw error;
        const pauseMs = error.retryAfterMs + Math.random() * retrySpreadMs;
        await new Promise((resolve) => setTimeout(resolve, pauseMs));
      }
    }
  };
  return { send, get };
}
