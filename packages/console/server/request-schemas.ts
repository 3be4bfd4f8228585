import { z } from 'flagcast/support';
import { anything, diffSchema, id, integerText, nullableText, time } from './schemas.js';

const text = z.string();

const requestedFieldSchema = diffSchema
  .extend({
    current: anything
      .optional()
      .describe('The value now, where the server can read it: of the fields of a feature'),
  })
  .openapi('RequestedField');

export const openChangeSchema = z
  .object({
    id,
    status: text.describe('pending, approved, rejected or cancelled, or another one of the host'),
    version: text.describe('Changes with every write to the request; a decision sends it back'),
    project_id: id,
    project: text,
    environment_id: integerText,
    environment: text,
    environment_name: text,
    requested_by: text,
    requester_active: z
      .boolean()
      .describe('Whether requested_by is an active user now. Other requests can be decided, too.'),
    created_at: time,
    reason: nullableText,
    decided_by: nullableText,
    decided_at: time.nullable().describe('Null while it is open, and for a cancellation that was not logged'),
    decision_reason: nullableText,
    entities: z.array(
      z.object({
        entity: text,
        entity_id: id,
        action: nullableText,
        feature_id: id.nullable(),
        feature_key: nullableText,
        feature_name: nullableText,
        feature_version: nullableText.describe(
          'Changes with every write to the feature; a decision sends it back',
        ),
        diff: z.array(requestedFieldSchema),
      }),
    ),
    own: z.boolean(),
    may_decide: z.boolean(),
    may_cancel: z.boolean(),
  })
  .openapi('OpenChange');

const requestStepSchema = z
  .object({
    action: text.describe('pending (requested or reopened), updated, approved, rejected, cancelled'),
    at: time.nullable(),
    by: nullableText,
    reason: nullableText,
  })
  .openapi('RequestStep');

export const requestDetailSchema = openChangeSchema
  .extend({ steps: z.array(requestStepSchema).describe('Its whole life, oldest first') })
  .openapi('RequestDetail');

export type OpenChange = z.output<typeof openChangeSchema>;
export type RequestStep = z.output<typeof requestStepSchema>;
