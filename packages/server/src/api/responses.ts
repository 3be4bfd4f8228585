import type { Context, Env, TypedResponse } from 'hono';
import { bodyLimit } from 'hono/body-limit';
import { HTTPException } from 'hono/http-exception';
import { matchedRoutes } from 'hono/route';
import type { ContentfulStatusCode } from 'hono/utils/http-status';
import type { z } from 'zod';
import { toError } from '../describe.js';
import { HttpProblem, unavailable } from '../http-problem.js';
import type { Lifecycle } from '../lifecycle.js';
import { errorCode, NoFreeSessionError } from '../postgres/errors.js';

/** Whether the client accepts a response compressed with gzip. */
export function acceptsGzip<E extends Env>(context: Context<E>): boolean {
  return /\bgzip\b(?!\s*;\s*q=0(\.0*)?\s*(,|$))/.test(context.req.header('Accept-Encoding') ?? '');
}

/** JSON of PostgreSQL. It is not parsed, because the numbers of JavaScript lose digits. */
export class JsonText {
  readonly text: string;

  constructor(text: string) {
    this.text = text;
  }
}

/** The value as JSON. A JsonText in it is inserted unchanged. */
function writeJson(value: unknown): string {
  if (value instanceof JsonText) return value.text;
  if (Array.isArray(value)) return `[${value.map(writeJson).join(',')}]`;
  if (typeof value !== 'object' || value === null) return JSON.stringify(value);
  const members = Object.entries(value).filter(([, member]) => member !== undefined);
  return `{${members.map(([name, member]) => `${JSON.stringify(name)}:${writeJson(member)}`).join(',')}}`;
}

/** Sends JSON whose parts may be JsonText. */
export function sendJson<E extends Env, Status extends ContentfulStatusCode>(
  context: Context<E>,
  body: object,
  status: Status,
  headers: Readonly<Record<string, string>> = {},
): Response & TypedResponse<never, Status, 'json'> {
  const response = context.body(writeJson(body), status, { ...headers, 'Content-Type': 'application/json' });
  // The compiler does not know the content of a JsonText: tests of the routes compare it with the schemas.
  return response as unknown as Response & TypedResponse<never, Status, 'json'>;
}

/** Sends `{code, message}` with the details of the problem. */
export function sendProblem<E extends Env>(context: Context<E>, problem: HttpProblem): Response {
  const { status, code, message, details, headers } = problem;
  return sendJson(context, { code, message, ...details }, status, headers);
}

/** Sends an error. An error that is no HttpProblem is a fault of this server or its database, and is logged. */
export function sendError<E extends Env>(
  context: Context<E>,
  error: unknown,
  lifecycle: Lifecycle,
): Response {
  if (error instanceof HttpProblem) {
    lifecycle.emit('request:refused', { status: error.status, code: error.code });
    return sendProblem(context, error);
  }
  const problem = problemOf(error);
  if (problem !== null) return sendProblem(context, problem);
  lifecycle.emit('access:failed', {
    error: toError(error),
    request: `${context.req.method} ${routeOf(context)}`,
  });
  // PostgreSQL ended a statement that waited for a lock (lock_not_available) or ran too long (query_canceled).
  const isTimeout = ['55P03', '57014'].includes(errorCode(error) ?? '');
  return sendProblem(context, isTimeout ? databaseTimeout() : unavailable());
}

/** What an error of the framework, or of too many requests, means for the client; null for a fault. */
function problemOf(error: unknown): HttpProblem | null {
  if (error instanceof NoFreeSessionError) {
    // The metrics of the sessions show it.
    const message = 'All sessions of the database that requests may use are in use: try again shortly';
    return new HttpProblem('busy', message, { retryAfterSeconds: 2 });
  }
  if (error instanceof HTTPException) {
    return error.status === 415
      ? new HttpProblem('unsupported_media_type', 'Send the body as Content-Type: application/json')
      : new HttpProblem('malformed_body', 'The body is not JSON: send one JSON object');
  }
  // The client disconnected while its body was read, so nothing receives the response.
  const isAbandoned =
    error instanceof Error && error.message === 'aborted' && errorCode(error) === 'ECONNRESET';
  return isAbandoned ? new HttpProblem('malformed_body', 'The body ended half way') : null;
}

function databaseTimeout(): HttpProblem {
  const message =
    'The database did not answer in time, for example because another session has locked a table: try again shortly';
  return new HttpProblem('unavailable', message, { retryAfterSeconds: 2 });
}

/** The route without the values of its parameters, e.g. `/api/features/:id`. */
function routeOf<E extends Env>(context: Context<E>): string {
  return matchedRoutes(context).findLast(({ path }) => !path.endsWith('*'))?.path ?? '(no route)';
}

/** 400 `invalid`, with the first problem of each field. */
export function invalidInput(error: z.core.$ZodError): HttpProblem {
  const fields: Record<string, string> = {};
  for (const issue of error.issues) {
    const isUnknown = issue.code === 'unrecognized_keys';
    const paths = isUnknown ? issue.keys.map((key) => [...issue.path, key]) : [issue.path];
    for (const path of paths) {
      fields[path.join('.') || 'body'] ??= isUnknown ? 'is not known here' : issue.message;
    }
  }
  return invalidFields(fields);
}

/** `fields` has the problem of each field, e.g. `{reason: 'must not be empty'}`. */
export function invalidFields(fields: Readonly<Record<string, string>>): HttpProblem {
  const problems = Object.entries(fields).map(([name, problem]) => `${name} ${problem}`);
  return new HttpProblem('invalid', `This is not valid: ${problems.join('; ')}`, {
    details: { fields },
  });
}

const maxBodyBytes = 65_536;

/** Refuses requests with larger bodies. */
export const limitBody = bodyLimit({
  maxSize: maxBodyBytes,
  onError: (context) =>
    sendProblem(context, new HttpProblem('body_too_large', 'The body is too large: send at most 64 KiB')),
});
