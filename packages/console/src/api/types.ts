import type { FeatureState } from '@flagcast/client';
import type { OpenChange } from '../../server/request-schemas.js';
import type { AuditPage, Project } from '../../server/schemas.js';

/** Bodies of the REST API, as the server's OpenAPI document describes them. */
export type { OpenChange, RequestStep } from '../../server/request-schemas.js';
export type {
  AuditHistogram,
  AuditPage,
  ListedFeature,
  Me,
  Mode,
  Project,
  SignedIn,
} from '../../server/schemas.js';

export type Environment = Project['environments'][number];

/** An entry of the audit log, or what a step of a request did to one entity. */
export type AuditEntry = AuditPage['entries'][number];

/** What a request changes in one entity. */
export type ChangedEntity = OpenChange['entities'][number];

/** The change of one field that a request asks for, with the value now where the server knows it. */
export type RequestedField = ChangedEntity['diff'][number];

/** The change of one field. */
export type FieldDiff = AuditEntry['diff'][number];

/** The body of `GET /api/features/:id`, as far as the page reads it. */
export interface FeatureDetails {
  /** The rows as the database has them. */
  readonly rules: readonly { readonly id: string; readonly [column: string]: unknown }[];
}

/** The fields that `PATCH /api/features/:id` can set. */
export type FeatureFields = Pick<
  FeatureState,
  'name' | 'description' | 'enabled' | 'default_value' | 'rollout_key'
>;
