import { guaranteeReasons } from '@flagcast/protocol';
import { z } from '@hono/zod-openapi';
import { featureFields, reasonField, textField } from './writes/feature-fields.js';
import { parseAuditPlace } from './audit-place.js';

/** How long the parts of a sign-in may be: a user name as its column holds it, a password that is hashed in reasonable time. */
const maxUsername = 255;
const maxPassword = 1_024;
const maxPage = 200;

const id = z.string().openapi({ format: 'uuid' });
const opaqueId = z.string().openapi({ description: 'As the database spells it: any text' });
const number = z.string().openapi({ description: 'A number, as text: it may have 64 bits.' });
const time = z.string().openapi({
  format: 'date-time',
  description: 'RFC 3339 in UTC; of a stored row outside of the years 1 to 9999 another text, e.g. infinity',
});
const anything = z.unknown().openapi({
  description:
    'Any JSON value as the database has it: numbers have all their digits, which a double may not keep',
});

export const errorSchema = z
  .object({
    code: z.string().openapi({ description: 'A stable word for programs' }),
    message: z.string().openapi({ description: 'One line for people: what is wrong and how to mend it' }),
    fields: z
      .record(z.string(), z.string())
      .optional()
      .openapi({ description: 'What is wrong, by the name of the field' }),
  })
  .openapi('Error');

export const featureSchema = z
  .object({
    id,
    key: z.string(),
    name: z.string(),
    description: z.string().nullable(),
    kind: z.string().openapi({ description: 'simple or multivariant' }),
    rollout_key: z.string().nullable(),
    enabled: z.boolean(),
    default_value: z.string(),
    created_at: time,
    updated_at: time,
    version: z.string().openapi({
      description: 'Changes with every write to the feature in this environment; a write sends it back',
    }),
  })
  .openapi('Feature');

export const listedFeatureSchema = featureSchema
  .extend({
    updated_by: z
      .string()
      .nullable()
      .openapi({ description: 'Who made the last change; null where the history does not tell' }),
  })
  .openapi('ListedFeature');

const diffSchema = z.object({ field: z.string(), old: anything, new: anything }).openapi('FieldDiff');

export const openChangeSchema = z
  .object({
    id,
    project_id: id,
    project: z.string(),
    environment_id: number,
    environment: z.string(),
    environment_name: z.string(),
    requested_by: z.string(),
    requester_active: z.boolean().openapi({
      description:
        'Whether requested_by is an active user now. The request of a user who is not can still be decided.',
    }),
    created_at: time,
    reason: z.string().nullable(),
    entities: z.array(
      z.object({
        entity: z.string(),
        entity_id: id,
        action: z.string().nullable(),
        feature_id: id.nullable(),
        feature_key: z.string().nullable(),
        feature_name: z.string().nullable(),
        diff: z.array(diffSchema),
      }),
    ),
    own: z.boolean(),
    may_decide: z.boolean(),
    may_cancel: z.boolean(),
  })
  .openapi('OpenChange');

export const decisionSchema = z
  .object({ id, status: z.enum(['approved', 'rejected', 'cancelled']), by: z.string(), at: time })
  .openapi('Decision');

const lastChange = z.object({ username: z.string(), at: time }).nullable();

export const staleSchema = errorSchema
  .extend({ current: featureSchema.optional(), changed_by: lastChange.optional() })
  .openapi('WriteConflict');

export const decidedSchema = errorSchema
  .extend({
    status: z.string().optional(),
    by: z.string().nullable().optional(),
    at: time.nullable().optional(),
    conflicts: z
      .array(
        z.object({
          entity: z.string(),
          entity_id: id,
          field: z.string(),
          old: anything,
          new: anything,
          current: anything,
        }),
      )
      .optional(),
  })
  .openapi('DecisionConflict');

const auditEntrySchema = z
  .object({
    id: z.string().openapi({
      description: 'As the event has it in flagcast.v1; a view of the host gives its events other ids',
    }),
    source: z.enum(['audit', 'pending']).openapi({
      description: 'audit: an entry of the audit log; pending: a step of a request for a change',
    }),
    audit_id: number.nullable().openapi({ description: "The audit log's own number; null for a step" }),
    pending_change_id: id.nullable().openapi({ description: 'The request; null for an entry of the log' }),
    created_at: time.nullable().openapi({
      description:
        'Null where the database keeps no time for it, that of a cancellation: such a step stands right after its request',
    }),
    requested_at: time
      .nullable()
      .openapi({ description: 'When the change was asked for; null for an entry of the log' }),
    action: z.string().openapi({
      description:
        'created, updated, deleted, or what a host calls it; pending, approved, rejected, cancelled',
    }),
    entity: z.string(),
    entity_id: id,
    feature_id: id.nullable(),
    feature_key: z.string().nullable(),
    feature_name: z.string().nullable(),
    username: z
      .string()
      .nullable()
      .openapi({ description: 'Who did it; null where the database does not tell, as with a cancellation' }),
    reason: z.string().nullable().openapi({ description: 'Why it was asked for, or rejected' }),
    request_id: id
      .nullable()
      .openapi({ description: 'The same for all that one write changed; null for a step' }),
    old_value: anything,
    new_value: anything,
    truncated: z.boolean().openapi({
      description:
        'A value, or the request, is too large to be shown: more than 64 KiB as text or 16 KiB as it is stored. A text replaces the value, and diff is empty',
    }),
    diff: z.array(diffSchema).openapi({ description: 'What was changed; of a request what it asks for' }),
  })
  .openapi('AuditEntry');

export const auditPageSchema = z
  .object({
    entries: z.array(auditEntrySchema).openapi({
      description: 'At most about 1 MiB of values; of one step of a request at most 200 entities',
    }),
    next: z.string().nullable().openapi({
      description: 'Give it as before to get what is older, also after an empty page; null at the end',
    }),
    searched_until: time.nullable().openapi({
      description:
        'A page looks at a bounded number of rows, and this is how far it came: what is older was not looked at. Null where the page is full, or all was looked at. With next null: older rows cannot be searched',
    }),
    index: z.string().nullable().openapi({
      description:
        'The index of audit_log by which the rows were found. Null where none has them by created_at: then only the newest 5,000 rows are searched',
    }),
  })
  .openapi('AuditPage');

const signedInUser = z.object({ id: opaqueId, username: z.string(), is_superuser: z.boolean() });

export const signedInSchema = z
  .object({ token: z.string(), expires_at: time, user: signedInUser })
  .openapi('SignedIn');

const demoPeople = z
  .array(z.object({ username: z.string(), password: z.string(), about: z.string() }))
  .openapi({ description: 'Only in the embedded demo: who can be signed in with one click' });

const mode = {
  sign_in: z.enum(['password', 'token']).openapi({
    description: 'password: POST /api/auth/login; token: bring one of the service that signs people in',
  }),
  demo_people: demoPeople,
  server: z.string().openapi({ description: 'Names the server process' }),
  guarantee: z
    .enum(['exact', 'overlap', 'partial'])
    .nullable()
    .openapi({ description: 'As in hello of flagcast.v1; null while the database has not been read yet' }),
  guarantee_reason: z.enum(guaranteeReasons).nullable(),
  overlap_ms: z.number().nullable(),
};

export const modeSchema = z.object(mode).openapi('Mode');

export const meSchema = z
  .object({
    user: signedInUser,
    token_expires_at: time,
    projects: z.array(z.object({ id: opaqueId, name: z.string(), permissions: z.array(z.string()) })),
    writes: z.boolean().openapi({ description: 'Whether this server takes changes' }),
    decisions: z.enum(['direct', 'password', 'elsewhere']).openapi({
      description:
        "What an approval or a rejection by this user asks for: direct: nothing more; password: the user's password; elsewhere: they are made in Togglr's own console, or where the flags are managed",
    }),
    ...mode,
  })
  .openapi('Me');

export const environmentSchema = z.object({
  id: opaqueId,
  key: z.string(),
  name: z.string(),
  guarded: z.boolean().openapi({ description: "Whether changes in it wait for somebody else's approval" }),
});

export const projectsSchema = z
  .object({
    projects: z.array(
      z.object({
        id: opaqueId,
        name: z.string(),
        environments: z.array(
          environmentSchema.extend({
            guarded_by: z
              .string()
              .nullable()
              .openapi({ description: 'Who guarded it; null where it is not' }),
            guarded_at: time.nullable(),
          }),
        ),
      }),
    ),
  })
  .openapi('Projects');

/** What requests bring. A body with a member that is not known is refused: it would be ignored in silence. */
export const loginBody = z
  .strictObject({ username: textField(1, maxUsername), password: textField(1, maxPassword) })
  .openapi('Login');

const environmentKey = textField(1, 255);
const version = textField(1, 100);

export const updateBody = z
  .strictObject({
    env: environmentKey,
    version,
    name: featureFields.name.optional(),
    description: featureFields.description.optional(),
    rollout_key: featureFields.rollout_key.optional(),
    enabled: featureFields.enabled.optional(),
    default_value: featureFields.default_value.optional(),
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

export const projectQuery = z.object({ project_id: z.guid({ error: 'must be a uuid' }).optional() });

export const guardBody = z
  .strictObject({ guarded: z.boolean({ error: 'must be true or false' }) })
  .openapi('Guard');

export const createBody = z
  .strictObject({
    project_id: z.guid({ error: ({ input }) => (input === undefined ? 'is missing' : 'must be a uuid') }),
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

const decisionPassword = textField(1, maxPassword)
  .optional()
  .openapi({ description: 'The password of the user, where decisions of /api/auth/me says password' });

export const approveBody = z.strictObject({ password: decisionPassword }).openapi('Approval');

export const rejectBody = z
  .strictObject({ reason: reasonField, password: decisionPassword })
  .openapi('Rejection');

const utcTime = z.iso
  .datetime({ error: 'must be a time in UTC, such as 2026-01-31T12:00:00Z' })
  .refine((text) => !text.startsWith('0000'), 'must be in the year 1 or later');

export const auditQuery = z.object({
  before: z
    .string({ error: 'must be given once' })
    .refine((text) => parseAuditPlace(text) !== null, 'must be what next said')
    .optional(),
  limit: z
    .string({ error: 'must be given once' })
    .refine(
      (text) => /^\d{1,4}$/.test(text) && Number(text) >= 1 && Number(text) <= maxPage,
      `must be a whole number from 1 to ${maxPage}`,
    )
    .transform(Number)
    .default(50)
    .openapi({
      type: 'integer',
      minimum: 1,
      maximum: maxPage,
      description: 'How many entries at the most; those of one step of a request count as one',
    }),
  entity: textField(1, 50).optional(),
  action: textField(1, 50).optional(),
  username: textField(1, maxUsername).optional(),
  feature_id: z.guid({ error: 'must be a uuid' }).optional(),
  since: utcTime.optional().openapi({ format: 'date-time', description: 'Only what happened then or later' }),
  until: utcTime.optional().openapi({ format: 'date-time', description: 'Only what happened before' }),
});

/** The channel of a request, as `channelFromQuery` reads it; described here, checked there. */
export const channelParameters = [
  {
    name: 'project_id',
    in: 'query',
    required: true,
    schema: { type: 'string' },
  },
  {
    name: 'env',
    in: 'query',
    required: false,
    description: 'The key of the environment, e.g. prod. Give one of env, env_id and environment_id.',
    schema: { type: 'string' },
  },
  { name: 'env_id', in: 'query', required: false, schema: { type: 'string' } },
  { name: 'environment_id', in: 'query', required: false, schema: { type: 'string' } },
] as const;

export const idParameter = z.object({ id });

/** The bodies of responses. The console's types are these. */
export type Mode = z.infer<typeof modeSchema>;
export type SignedIn = z.infer<typeof signedInSchema>;
export type Me = z.infer<typeof meSchema>;
export type Project = z.infer<typeof projectsSchema>['projects'][number];
export type OpenChange = z.infer<typeof openChangeSchema>;
export type AuditPage = z.infer<typeof auditPageSchema>;
