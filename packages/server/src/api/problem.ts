import type { Context, Env } from 'hono';
import { matchedRoutes } from 'hono/route';
import { HTTPException } from 'hono/http-exception';
import type { ContentfulStatusCode } from 'hono/utils/http-status';
import type { z } from 'zod';
import { ChangeRefusedError } from '../host/change-refused.js';
import { errorCode } from '../postgres/error-code.js';
import { NoFreeSessionError } from '../postgres/session-slots.js';
import { scrub } from '../describe.js';
import { RefusedError, unavailable } from '../auth/request-authorizer.js';
import { type Refusal, refusalHeaders } from '../auth/refusal.js';
import type { Lifecycle } from '../lifecycle.js';
import { answerJson } from './answers.js';

/** Answers with a refusal: `{code, message}`. */
export function answerRefusal<E extends Env>(context: Context<E>, refusal: Refusal): Response {
  const { status, code, message } = refusal;
  return context.json({ code, message }, status, refusalHeaders(refusal));
}

/** Answers with what went wrong. What is no refusal is a fault of ours, or of the database: the log is told. */
export function answerError<E extends Env>(
  context: Context<E>,
  error: unknown,
  lifecycle: Lifecycle,
): Response {
  if (error instanceof RefusedError) {
    const { status, code } = error.refusal;
    lifecycle.emit('request:refused', { status, code });
    return answerRefusal(context, error.refusal);
  }
  if (error instanceof ChangeRefusedError) {
    const { status, code, message, details } = error;
    const headers = status === 503 ? { 'Retry-After': '1' } : {};
    return answerJson(context, { code, message, ...details }, status, {
      'Cache-Control': 'no-store',
      ...headers,
    });
  }
  if (error instanceof NoFreeSessionError) return answerRefusal(context, databaseBusy);
  if (error instanceof HTTPException) return answerUnreadable(context, error);
  if (isAbandoned(error)) return problem(context, 400, 'malformed_body', 'The body ended half way');
  lifecycle.emit('access:failed', {
    error: error instanceof Error ? error : new Error(String(error)),
    request: `${context.req.method} ${routeOf(context)}`,
  });
  return answerRefusal(context, isTimeout(error) ? databaseTimeout : unavailable);
}

const databaseTimeout: Refusal = {
  ...unavailable,
  message:
    'The database did not answer in time, for example because another session has locked a table: try again shortly',
};

/** Whether PostgreSQL ended a statement that waited for a lock (lock_not_available) or ran too long (query_canceled). */
function isTimeout(error: unknown): boolean {
  return ['55P03', '57014'].includes(errorCode(error) ?? '');
}

/** The route without the values of its parameters, e.g. `/api/features/:id`. */
function routeOf<E extends Env>(context: Context<E>): string {
  return matchedRoutes(context).findLast(({ path }) => !path.endsWith('*'))?.path ?? '(no route)';
}

/** Its fault is neither the request's nor the database's: the metrics of the sessions tell. */
const databaseBusy: Refusal = {
  status: 503,
  code: 'busy',
  message: 'All sessions of the database that requests may use are in use: try again shortly',
  retryAfterSeconds: 2,
};

/** The sender has left while its body was being read: node:http says so, and nobody hears the answer. */
function isAbandoned(error: unknown): boolean {
  return (
    error instanceof Error && error.message === 'aborted' && 'code' in error && error.code === 'ECONNRESET'
  );
}

/** Answers a read of tables that the database does not have in that form, or does not let the server read. */
export function answerMissing<E extends Env>(context: Context<E>, { message }: Error): Response {
  return problem(
    context,
    501,
    'not_available',
    `This needs Togglr's tables, and the database has none of that form or does not let the server read them (${scrub(message)}): look it up where the flags are managed, or have the right granted`,
  );
}

/** The framework found fault with the request before any of ours saw it. */
function answerUnreadable<E extends Env>(context: Context<E>, { status }: HTTPException): Response {
  return status === 415
    ? problem(context, 415, 'unsupported_media_type', 'Send the body as Content-Type: application/json')
    : problem(context, 400, 'malformed_body', 'The body is not JSON: send one JSON object');
}

export function answerTooLarge<E extends Env>(context: Context<E>): Response {
  return problem(context, 413, 'body_too_large', 'The body is too large: send at most 64 KiB');
}

/** Answers 400 `invalid`, with what is wrong with each field. */
export function answerInvalid<E extends Env>(context: Context<E>, error: z.core.$ZodError): Response {
  const fields: Record<string, string> = {};
  for (const issue of error.issues) {
    const names =
      issue.code === 'unrecognized_keys'
        ? issue.keys.map((key) => [...issue.path, key].join('.'))
        : [issue.path.join('.')];
    for (const name of names) {
      // The first problem of a field is the one to mend first.
      fields[name === '' ? 'body' : name] ??=
        issue.code === 'unrecognized_keys' ? 'is not known here' : issue.message;
    }
  }
  const problems = Object.entries(fields).map(([name, text]) => `${name} ${text}`);
  return context.json(
    { code: 'invalid', message: `This is not valid: ${problems.join('; ')}`, fields },
    400,
    { 'Cache-Control': 'no-store' },
  );
}

function problem<E extends Env>(
  context: Context<E>,
  status: ContentfulStatusCode,
  code: string,
  message: string,
): Response {
  return context.json({ code, message }, status, { 'Cache-Control': 'no-store' });
}
