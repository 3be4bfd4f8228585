import type { Context, Env, TypedResponse } from 'hono';
import type { ContentfulStatusCode } from 'hono/utils/http-status';
import { writeJson } from '../json-text.js';
import type { RestEnv } from './rest.js';
import { errorSchema } from './schemas.js';

/** The parameters of a request's address. */
export function queryOf(context: Context<RestEnv>): URLSearchParams {
  return new URL(context.req.url).searchParams;
}

/** Whether the text has the form of a uuid; one that has not names nothing. */
export function isUuid(text: string): boolean {
  return /^[\da-f]{8}(-[\da-f]{4}){3}-[\da-f]{12}$/i.test(text);
}

/** Whether the client takes an answer compressed with gzip. */
export function acceptsGzip<E extends Env>(context: Context<E>): boolean {
  return /\bgzip\b(?!\s*;\s*q=0(\.0*)?\s*(,|$))/.test(context.req.header('Accept-Encoding') ?? '');
}

/** An answer with a JSON body, for a route's definition. */
export function jsonAnswer<Schema>(
  description: string,
  schema: Schema,
): { description: string; content: { 'application/json': { schema: Schema } } } {
  return { description, content: { 'application/json': { schema } } };
}

/** Answers with a body that may hold JsonText. */
export function answerJson<E extends Env, Status extends ContentfulStatusCode>(
  context: Context<E>,
  body: object,
  status: Status,
  headers: Readonly<Record<string, string>> = {},
): Response & TypedResponse<never, Status, 'json'> {
  const answer = context.body(writeJson(body), status, { ...headers, 'Content-Type': 'application/json' });
  // What the text holds is not known to the compiler: the tests of the routes compare it with the schemas.
  return answer as unknown as Response & TypedResponse<never, Status, 'json'>;
}

/** The refusals that every route for people who have signed in can answer with. */
export const commonRefusals = {
  400: jsonAnswer('A parameter or a field is wrong', errorSchema),
  401: jsonAnswer('The token is missing, wrong or expired', errorSchema),
  403: jsonAnswer('The origin is not allowed, or the user may not do this', errorSchema),
  404: jsonAnswer('There is no such thing', errorSchema),
  503: jsonAnswer('The database does not answer, or is busy: try again', errorSchema),
} as const;

/** The refusals of a route that writes. */
export const writeRefusals = {
  ...commonRefusals,
  504: jsonAnswer(
    'outcome_unknown: the database has not confirmed the change, which may have been made: do not repeat it before you have looked',
    errorSchema,
  ),
} as const;

/** What a route answers that is expensive for the database. */
export const heavyRefusal = {
  429: jsonAnswer('too_many_requests: the user has too many such requests under way', errorSchema),
} as const;

/** What a route that reads Togglr's tables answers where the database has none of that form. */
export const missingRefusal = {
  501: jsonAnswer(
    'not_available: the database has no tables of that form, or does not let the server read them',
    errorSchema,
  ),
} as const;

export const bearerSecurity = [{ bearer: [] }];
