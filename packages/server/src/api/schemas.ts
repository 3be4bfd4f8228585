import { z } from '@hono/zod-openapi';

export const id = z.string().openapi({ format: 'uuid' });
export const opaqueId = z.string().describe('As the database spells it: any text');
const text = z.string();
export const nullableText = text.nullable();
export const time = text.openapi({
  format: 'date-time',
  description: 'RFC 3339 in UTC; a stored time outside the years 1 to 9999 is other text, e.g. infinity',
});

/** A response with JSON, for the definition of a route. */
export function jsonResponse<Schema>(
  description: string,
  schema: Schema,
): { description: string; content: { 'application/json': { schema: Schema } } } {
  return { description, content: { 'application/json': { schema } } };
}

/** A required body with JSON, for the definition of a route. */
export function jsonBody<Schema>(schema: Schema): {
  required: true;
  content: { 'application/json': { schema: Schema } };
} {
  return { required: true, content: { 'application/json': { schema } } };
}

export const errorSchema = z
  .object({
    code: text.describe('A stable word for programs'),
    message: text.describe('One line for people: what is wrong and how to fix it'),
    fields: z.record(text, text).optional().describe('What is wrong, by the name of the field'),
  })
  .openapi('Error');

export function errorResponse(description: string): ReturnType<typeof jsonResponse<typeof errorSchema>> {
  return jsonResponse(description, errorSchema);
}

/** The refusals of every route that needs a token. */
export const commonRefusals = {
  400: errorResponse('A parameter or a field is wrong'),
  401: errorResponse('The token is missing, wrong or expired'),
  403: errorResponse('The origin is not allowed, or the user may not do this'),
  404: errorResponse('Not found'),
  503: errorResponse('The database does not answer, or is busy: try again'),
} as const;

/** Of a route that is expensive for the database. */
export const heavyRefusal = {
  429: errorResponse('too_many_requests: the user has too many such requests under way'),
} as const;

export const bearerSecurity = [{ bearer: [] }];

export const featureSchema = z
  .object({
    id,
    key: text,
    name: text,
    description: nullableText,
    kind: text.describe('simple or multivariant'),
    rollout_key: nullableText,
    enabled: z.boolean(),
    default_value: text,
    created_at: time,
    updated_at: time,
    version: text.describe(
      'Changes with every write to the feature in this environment; writes send it back',
    ),
  })
  .openapi('Feature');

export const environmentSchema = z.object({
  id: opaqueId,
  key: text,
  name: text,
  guarded: z.boolean().describe("Whether changes in it wait for another user's approval"),
});

const guardedEnvironmentSchema = environmentSchema.extend({
  guarded_by: nullableText.describe('Null if it is not guarded'),
  guarded_at: time.nullable(),
});

export const projectsSchema = z
  .object({
    projects: z.array(
      z.object({ id: opaqueId, name: text, environments: z.array(guardedEnvironmentSchema) }),
    ),
  })
  .openapi('Projects');

const queryParameter = { in: 'query', required: false, schema: { type: 'string' } } as const;

/** The channel of a request, as `channelFromQuery` reads it; described here, checked there. */
export const channelParameters = [
  { ...queryParameter, name: 'project_id', required: true },
  {
    ...queryParameter,
    name: 'env',
    description: 'The key of the environment, e.g. prod. Give one of env, env_id and environment_id.',
  },
  { ...queryParameter, name: 'env_id' },
  { ...queryParameter, name: 'environment_id' },
];

export const cursorParameter = {
  ...queryParameter,
  name: 'cursor',
  description: 'The position to resume after; without it the stream begins with new events',
} as const;
