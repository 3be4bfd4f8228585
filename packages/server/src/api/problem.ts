import type { Context, Env } from 'hono';
import { matchedRoutes } from 'hono/route';
import { HTTPException } from 'hono/http-exception';
import type { z } from 'zod';
import { HttpProblem, unavailable } from '../http-problem.js';
import { errorCode, NoFreeSessionError } from '../postgres/errors.js';
import { scrub } from '../describe.js';
import type { Lifecycle } from '../lifecycle.js';
import { answerJson } from './answers.js';

/** Answers with `{code, message}` and the details of the problem. */
export function answerProblem<E extends Env>(context: Context<E>, problem: HttpProblem): Response {
  const { status, code, message, details, headers } = problem;
  return answerJson(context, { code, message, ...details }, status, headers);
}

/** Answers with the error. One that is not an HttpProblem is a fault of the server or the database, and goes to the log. */
export function answerError<E extends Env>(
  context: Context<E>,
  error: unknown,
  lifecycle: Lifecycle,
): Response {
  if (error instanceof HttpProblem) {
    const { status, code } = error;
    lifecycle.emit('request:refused', { status, code });
    return answerProblem(context, error);
  }
  // Not logged: the metrics of the sessions show it.
  if (error instanceof NoFreeSessionError) return answerProblem(context, databaseBusy());
  if (error instanceof HTTPException) return answerUnreadable(context, error);
  if (isAbandoned(error)) {
    return answerProblem(context, new HttpProblem(400, 'malformed_body', 'The body ended half way'));
  }
  lifecycle.emit('access:failed', {
    error: error instanceof Error ? error : new Error(String(error)),
    request: `${context.req.method} ${routeOf(context)}`,
  });
  return answerProblem(context, isTimeout(error) ? databaseTimeout() : unavailable());
}

function databaseTimeout(): HttpProblem {
  const message =
    'The database did not answer in time, for example because another session has locked a table: try again shortly';
  return new HttpProblem(503, 'unavailable', message, { retryAfterSeconds: 2 });
}

function databaseBusy(): HttpProblem {
  const message = 'All sessions of the database that requests may use are in use: try again shortly';
  return new HttpProblem(503, 'busy', message, { retryAfterSeconds: 2 });
}

/** Whether PostgreSQL ended a statement that waited for a lock (lock_not_available) or ran too long (query_canceled). */
function isTimeout(error: unknown): boolean {
  return ['55P03', '57014'].includes(errorCode(error) ?? '');
}

/** The route without the values of its parameters, e.g. `/api/features/:id`. */
function routeOf<E extends Env>(context: Context<E>): string {
  return matchedRoutes(context).findLast(({ path }) => !path.endsWith('*'))?.path ?? '(no route)';
}

/** The sender has left while its body was being read: node:http says so, and nobody hears the answer. */
function isAbandoned(error: unknown): boolean {
  return (
    error instanceof Error && error.message === 'aborted' && 'code' in error && error.code === 'ECONNRESET'
  );
}

/** The database has not the tables of Togglr that a route reads, or does not let the server read them. */
export function missingTables({ message }: Error): HttpProblem {
  return new HttpProblem(
    501,
    'not_available',
    `This needs Togglr's tables, and the database has none of that form or does not let the server read them (${scrub(message)}): look it up where the flags are managed, or have the right granted`,
  );
}

/** An error of Hono, before a handler was called. */
function answerUnreadable<E extends Env>(context: Context<E>, { status }: HTTPException): Response {
  const problem =
    status === 415
      ? new HttpProblem(415, 'unsupported_media_type', 'Send the body as Content-Type: application/json')
      : new HttpProblem(400, 'malformed_body', 'The body is not JSON: send one JSON object');
  return answerProblem(context, problem);
}

/** 400 `invalid`, with the first problem of each field. */
export function invalidInput(error: z.core.$ZodError): HttpProblem {
  const fields: Record<string, string> = {};
  for (const issue of error.issues) {
    const isUnknown = issue.code === 'unrecognized_keys';
    const names = isUnknown
      ? issue.keys.map((key) => [...issue.path, key].join('.'))
      : [issue.path.join('.')];
    for (const name of names) {
      fields[name === '' ? 'body' : name] ??= isUnknown ? 'is not known here' : issue.message;
    }
  }
  return invalidFields(fields);
}

/** Some fields of the input are invalid. `fields` has the problem of each, e.g. `{reason: 'must not be empty'}`. */
export function invalidFields(fields: Readonly<Record<string, string>>): HttpProblem {
  const problems = Object.entries(fields).map(([name, problem]) => `${name} ${problem}`);
  return new HttpProblem(400, 'invalid', `This is not valid: ${problems.join('; ')}`, {
    details: { fields },
  });
}

export function unknownFeature(): HttpProblem {
  return new HttpProblem(404, 'unknown_feature', 'There is no such feature, or it has been deleted');
}

export function unknownEnvironment(): HttpProblem {
  return new HttpProblem(404, 'unknown_environment', 'There is no such environment in this project');
}
