import type { Messages } from '../i18n/en.js';
import { nameOf, visible } from '../i18n/visible.js';
import { parseJson } from './exact-json.js';
import { compareClocks } from './server-clock.js';

/** A request that failed: the server's error response, or no response at all. */
export class ApiError extends Error {
  override readonly name = 'ApiError';
  /** 0 without a response. */
  readonly status: number;
  /** The code of the server, e.g. `stale_version`; without a response `unreachable`, or `outcome_unknown` for writes. */
  readonly code: string;
  /** Validation errors by field. */
  readonly fields: Readonly<Record<string, string>>;
  /** The whole body: some codes have more fields. */
  readonly body: Readonly<Record<string, unknown>>;
  /** The server's Retry-After in milliseconds; 0 without one. */
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

/** Whether the database does not have the requested data at all. */
export function isNotAvailable(error: unknown): boolean {
  return error instanceof ApiError && error.code === 'not_available';
}

export interface Api {
  /** Resolves with the status and body of the response. Rejects with an ApiError. */
  // oxlint-disable-next-line typescript/no-unnecessary-type-parameters -- the caller names the type of the body
  readonly send: <Body>(
    method: 'GET' | 'POST' | 'PATCH' | 'DELETE',
    path: string,
    body?: unknown,
  ) => Promise<{ readonly status: number; readonly body: Body }>;
  /** Sends a GET and resolves with its body. Retries while the user has too many requests in progress. */
  readonly get: <Body>(path: string) => Promise<Body>;
  /** Sends a GET and resolves with the response as soon as it begins. Rejects with an ApiError. */
  readonly open: (path: string, signal: AbortSignal) => Promise<Response>;
}

const requestTimeoutMs = 30_000;
const maxAttempts = 3;
/** Random delay, so that pages do not retry at the same time. */
const retrySpreadMs = 1_000;

/** The JSON body; empty if the response is not JSON, for example from a proxy. */
function parseBody(text: string): Record<string, unknown> {
  try {
    return parseJson(text) as Record<string, unknown>;
  } catch {
    return {};
  }
}

/** Creates the client for the REST API of the server that served the page. */
export function createApi(options: {
  /** The path prefix of the server; usually empty. */
  readonly basePath: string;
  /** The current token; null if the user is signed out. */
  readonly token: () => string | null;
  /** Called when the server rejects the token. */
  readonly onTokenRefused: () => void;
}): Api {
  const authorization = (token: string | null) =>
    token === null ? {} : { Authorization: `Bearer ${token}` };
  const refusal = (response: Response, body: Readonly<Record<string, unknown>>, token: string | null) => {
    const retryAfterMs = Number(response.headers.get('retry-after')) * 1_000 || 0;
    const error = new ApiError(response.status, body, retryAfterMs);
    if (
      response.status === 401 &&
      token !== null &&
      (error.code.startsWith('token_') || error.code === 'unknown_user')
    ) {
      options.onTokenRefused();
    }
    return error;
  };
  // oxlint-disable-next-line typescript/no-unnecessary-type-parameters -- as above
  const send: Api['send'] = async <Body>(method: string, path: string, body?: unknown) => {
    const token = options.token();
    // A write may have succeeded although its response was lost.
    const code = method === 'GET' || path.startsWith('/api/auth/') ? 'unreachable' : 'outcome_unknown';
    let response: Response;
    let text: string;
    const sentAtMs = Date.now();
    try {
      response = await fetch(options.basePath + path, {
        method,
        headers: {
          ...authorization(token),
          ...(body === undefined ? {} : { 'Content-Type': 'application/json' }),
        },
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
        signal: AbortSignal.timeout(requestTimeoutMs),
      });
      compareClocks(response.headers.get('date'), sentAtMs, Date.now());
      // Rejects if the connection closes before the end of the body.
      text = await response.text();
    } catch (error) {
      throw new ApiError(0, { code, message: String(error) });
    }
    const parsed = parseBody(text);
    if (response.ok) return { status: response.status, body: parsed as Body };
    throw refusal(response, { code, ...parsed }, token);
  };
  const open: Api['open'] = async (path, signal) => {
    const token = options.token();
    const response = await fetch(options.basePath + path, { headers: authorization(token), signal });
    if (response.ok) return response;
    throw refusal(response, { code: 'unreachable', ...parseBody(await response.text()) }, token);
  };
  // oxlint-disable-next-line typescript/no-unnecessary-type-parameters -- as above
  const get: Api['get'] = async <Body>(path: string) => {
    for (let attempt = 1; ; attempt += 1) {
      try {
        return (await send<Body>('GET', path)).body;
      } catch (error) {
        const isRepeatable = error instanceof ApiError && error.code === 'too_many_requests';
        if (!isRepeatable || attempt === maxAttempts) throw error;
        const pauseMs = error.retryAfterMs + Math.random() * retrySpreadMs;
        await new Promise((resolve) => setTimeout(resolve, pauseMs));
      }
    }
  };
  return { send, get, open };
}

/** One line about an error, in the language of the page. */
export function describeError(error: unknown, { errors }: Messages): string {
  return error instanceof ApiError ? describeCode(error.code, errors) : String(error);
}

/** One line about an error code of the server. An unknown one is quoted, for the administrator. */
export function describeCode(code: string, errors: Messages['errors']): string {
  return Object.hasOwn(errors, code) ? nameOf(errors, code) : `${errors.unexpected} (${visible(code)})`;
}

/** What is wrong with each input; unknown problems as the server words them. */
export function describeFields(
  error: unknown,
  { fieldProblems }: Messages,
): Readonly<Record<string, string>> {
  if (!(error instanceof ApiError)) return {};
  const described = Object.entries(error.fields).map(([field, problem]) => {
    const text = nameOf(fieldProblems, problem.replace(/\d+/, '#'));
    return [field, text.replace('#', /\d+/.exec(problem)?.[0] ?? '')];
  });
  return Object.fromEntries(described) as Readonly<Record<string, string>>;
}
