import { guaranteeReasons } from '@flagcast/protocol';
import { apiSchemas, z } from 'flagcast/support';

export const {
  bearerSecurity,
  channelParameters,
  commonRefusals,
  environmentSchema,
  errorResponse,
  errorSchema,
  featureSchema,
  heavyRefusal,
  id,
  jsonBody,
  jsonResponse,
  nullableText,
  time,
} = apiSchemas;

const { opaqueId } = apiSchemas;
const text = z.string();

export const integerText = z.string().describe('A number, as text: it may have 64 bits.');
export const anything = z
  .unknown()
  .describe('Any JSON value of the database. Numbers have all digits, which a double may not keep');

export const writeRefusals = {
  ...commonRefusals,
  504: errorResponse(
    'outcome_unknown: the database has not confirmed the change: check whether it was made before you repeat it',
  ),
} as const;

/** Of a route that reads Togglr's tables. */
export const missingRefusal = {
  501: errorResponse(
    'not_available: the database has no tables of that form, or does not let the server read them',
  ),
} as const;

export const listedFeatureSchema = featureSchema
  .extend({
    updated_by: nullableText.describe('The user of the last change; null if the history does not have it'),
  })
  .openapi('ListedFeature');

export const diffSchema = z.object({ field: text, old: anything, new: anything }).openapi('FieldDiff');

export const decisionSchema = z
  .object({ id, status: z.enum(['approved', 'rejected', 'cancelled']), by: text, at: time })
  .openapi('Decision');

export const staleSchema = errorSchema
  .extend({
    current: featureSchema.optional(),
    changed_by: z
      .object({ username: text, at: time, audit_id: integerText.describe('The row_id of its event') })
      .nullable()
      .optional(),
  })
  .openapi('WriteConflict');

const auditEntrySchema = z
  .object({
    id: z
      .string()
      .describe('The id of the event in flagcast.v1; different if events come from a view of the host'),
    source: z
      .enum(['audit', 'pending'])
      .describe('audit: an entry of the audit log; pending: a step of a request for a change'),
    audit_id: integerText.nullable().describe("The audit log's own number; null for a step"),
    pending_change_id: id.nullable().describe('The request; null for an entry of the log'),
    created_at: time
      .nullable()
      .describe('Null for a cancellation whose time was not logged: it follows its request'),
    requested_at: time.nullable().describe('When the change was asked for; null for an entry of the log'),
    action: z
      .string()
      .describe('created, updated, deleted, or a name of the host; pending, approved, rejected, cancelled'),
    project_id: id,
    project: z.string(),
    environment_id: integerText,
    environment: z.string().describe('Its key'),
    entity: z.string(),
    entity_id: id,
    feature_id: id.nullable(),
    feature_key: z.string().nullable(),
    feature_name: z
      .string()
      .nullable()
      .describe('Of a deleted flag the last one; null if the log does not have it'),
    feature_deleted: z.boolean(),
    username: z.string().nullable().describe('Null for a cancellation that was not logged'),
    reason: z.string().nullable().describe('Why it was asked for, or rejected'),
    request_id: id.nullable().describe('The same for all that one write changed; null for a step'),
    old_value: anything,
    new_value: anything,
    truncated: z
      .boolean()
      .describe(
        'True if the values exceed 64 KiB as text or 16 KiB stored: a placeholder replaces them, and diff is empty',
      ),
    diff: z.array(diffSchema).describe('The changes, also the requested ones'),
  })
  .openapi('AuditEntry');

export const auditPageSchema = z
  .object({
    entries: z
      .array(auditEntrySchema)
      .describe('At most about 1 MiB of values; of one step of a request at most 200 entities'),
    next: z
      .string()
      .nullable()
      .describe('Send it as before for older entries, also after an empty page; null at the end'),
    searched_until: time
      .nullable()
      .describe(
        'Entries before this time were not searched, because a page reads a bounded number of rows. Null if the page is full or all rows were read. With next null: older rows cannot be searched',
      ),
    index: z
      .string()
      .nullable()
      .describe('The index of audit_log that the search used; null: only the newest 5,000 rows are searched'),
  })
  .openapi('AuditPage');

export const auditHistogramSchema = z
  .object({
    counts: z
      .array(z.number().int())
      .describe('The number of entries in each part of the time, oldest first'),
    searched_until: time
      .nullable()
      .describe('Entries before this time are not counted: 50,000 rows are read at most. Null if all are'),
  })
  .openapi('AuditHistogram');

const signedInUser = z.object({ id: opaqueId, username: z.string(), is_superuser: z.boolean() });

export const signedInSchema = z
  .object({ token: z.string(), expires_at: time, user: signedInUser })
  .openapi('SignedIn');

const modeFields = {
  sign_in: z
    .enum(['password', 'token'])
    .describe('password: POST /api/auth/login; token: another service issues the tokens'),
  demo_people: z
    .array(z.object({ username: z.string(), password: z.string(), about: z.string() }))
    .describe('Only in the embedded demo: users for a sign-in with one click'),
  server: z.string().describe('Names the server process'),
  guarantee: z
    .enum(['exact', 'overlap', 'partial'])
    .nullable()
    .describe('As in hello of flagcast.v1; null before the first read of the database'),
  guarantee_reason: z.enum(guaranteeReasons).nullable(),
  overlap_ms: z.number().nullable(),
};

export const modeSchema = z.object(modeFields).openapi('Mode');

export const meSchema = z
  .object({
    user: signedInUser,
    token_expires_at: time,
    projects: z.array(z.object({ id: opaqueId, name: z.string(), permissions: z.array(z.string()) })),
    writes: z.boolean().describe('Whether this server accepts changes'),
    decisions: z
      .enum(['direct', 'password', 'elsewhere'])
      .describe(
        "What decisions of this user require. direct: nothing more; password: the user's password; elsewhere: Togglr's own console, or the place where the flags are managed",
      ),
    ...modeFields,
  })
  .openapi('Me');

/** The bodies of responses, also for the console. */
export type Mode = z.output<typeof modeSchema>;
export type SignedIn = z.output<typeof signedInSchema>;
export type Me = z.output<typeof meSchema>;
export type Project = z.output<typeof apiSchemas.projectsSchema>['projects'][number];
export type AuditPage = z.output<typeof auditPageSchema>;
export type AuditHistogram = z.output<typeof auditHistogramSchema>;
export type Decision = z.output<typeof decisionSchema>;
export type ListedFeature = z.output<typeof listedFeatureSchema>;

/** A text that PostgreSQL can hold, of `least` to `most` characters as it counts them: code points. */
export function textField(least: number, most: number): z.ZodType<string, string> {
  return z
    .string({ error: ({ input }) => (input === undefined ? 'is missing' : 'must be a text') })
    .refine((value) => !/[\0\p{Surrogate}]/u.test(value), 'holds a character that cannot be stored')
    .refine((value) => least === 0 || value.trim() !== '', 'must not be empty')
    .refine((value) => value.replace(/./gsu, ' ').length <= most, `may have at most ${most} characters`)
    .meta({ minLength: least, maxLength: most });
}

export const uuidField = z.guid({
  error: ({ input }) => (input === undefined ? 'is missing' : 'must be a uuid'),
});
const environmentKey = textField(1, 255);
export const version = textField(1, 100);
export const reasonField = textField(1, 500);
export const utcTime = z.iso
  .datetime({ error: 'must be a time in UTC, such as 2026-01-31T12:00:00Z' })
  .refine((value) => !value.startsWith('0000'), 'must be in the year 1 or later');

/** RFC 3339 with microseconds, as the database writes a time, for a regular expression. */
export const microsecondTime = String.raw`(?!0000)\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z`;

/** Whether a text of that form is a time that exists. */
export function isRealTime(text: string): boolean {
  const date = new Date(text);
  // A Date takes February 30th for a day in March.
  return !Number.isNaN(date.getTime()) && date.toISOString().slice(0, 19) === text.slice(0, 19);
}

/** A parameter for the page after another one, whose `next` it is. */
export function pageStart(parse: (text: string) => object | null) {
  return z
    .string({ error: 'must be given once' })
    .refine((value) => parse(value) !== null, 'must be the value of "next" from the previous page')
    .optional();
}

/** A parameter for the size of a page. */
export function pageLimit({
  most,
  usual,
  description = 'How many at the most',
}: {
  most: number;
  usual: number;
  description?: string;
}) {
  return z
    .string({ error: 'must be given once' })
    .refine(
      (value) => /^\d{1,7}$/.test(value) && Number(value) >= 1 && Number(value) <= most,
      `must be a whole number from 1 to ${most}`,
    )
    .transform(Number)
    .default(usual)
    .openapi({ type: 'integer', minimum: 1, maximum: most, description });
}

/** As long as the column is. */
export const usernameField = textField(1, 255);
/** A longer password would take too long to hash. */
export const passwordField = textField(1, 1_024);

/** What can be changed of a feature, as the columns hold it. */
export const featureFields = {
  name: textField(1, 50),
  description: textField(0, 300).nullable(),
  rollout_key: textField(1, 1_000).nullable(),
  enabled: z.boolean({
    error: ({ input }) => (input === undefined ? 'is missing' : 'must be true or false'),
  }),
  default_value: textField(0, 128),
} as const;

/** New values of some fields. */
export type FeatureFields = {
  readonly [Field in keyof typeof featureFields]?: z.output<(typeof featureFields)[Field]> | undefined;
};

// Bodies are strict: an unknown member would be ignored without notice.
export const updateBody = z
  .strictObject({
    env: environmentKey,
    version,
    ...z.object(featureFields).partial().shape,
    reason: reasonField.optional(),
  })
  .refine((body) => Object.keys(featureFields).some((field) => Object.hasOwn(body, field)), {
    error: `changes nothing: give at least one of ${Object.keys(featureFields).join(', ')}`,
  })
  .openapi('FeatureUpdate');

export const deleteBody = z
  .strictObject({ env: environmentKey, version, reason: reasonField.optional() })
  .openapi('Deletion');

export const environmentQuery = z.object({ env: environmentKey });

export const createBody = z
  .strictObject({
    project_id: uuidField,
    key: textField(1, 50).refine(
      (key) => /^[a-z\d][\w.-]*$/i.test(key),
      'must begin with a letter or a digit and have nothing but letters, digits and . _ - in it',
    ),
    name: featureFields.name,
    description: featureFields.description.default(null),
    kind: z.enum(['simple', 'multivariant'], { error: 'must be simple or multivariant' }).default('simple'),
    rollout_key: featureFields.rollout_key.default(null),
    default_value: featureFields.default_value.default(''),
  })
  .openapi('NewFeature');

export type NewFeature = Readonly<z.output<typeof createBody>>;

export const idParameter = z.object({ id });

const uuidPattern = /^[\da-f]{8}(-[\da-f]{4}){3}-[\da-f]{12}$/i;

/** Whether the text has the form of a uuid. A text of another form is the id of nothing. */
export function isUuid(value: string): boolean {
  return uuidPattern.test(value);
}
