import type pg from 'pg';
import { hashPassword } from '@flagcast/console';
import { inTransaction } from 'flagcast/support';
import { demoProjects, demoUsers } from './company.js';
import { featureState, type DatasetBuilder, type EnvironmentKey } from './dataset-builder.js';
import { generateDataset } from './generate-dataset.js';
import { createRandom } from './random.js';

export interface DemoOptions {
  /** End of the history, in milliseconds since the epoch. Default: now. */
  readonly nowMs?: number;
  /** The same seed and time give the same dataset. Default 1. */
  readonly seed?: number;
}

/** The user who enabled the approval requirement of prod. */
const guardedBy = 'alice';

/** The passwords are shown on the sign-in page, so a safe cost would only delay the start by seconds. */
const cheapCost = { N: 16_384, r: 8, p: 1 };

/** Key of the advisory lock that keeps two servers from filling the same database at once. Arbitrary numbers. */
const demoLock = [1_179_404_103, 2];

/**
 * Fills a database with the demo: projects, users with well-known passwords, sixty flags, thirty days of history and open
 * requests. The database must have the contract tables; does nothing if it has a project. Runs in one transaction, which
 * `client` must not be in already.
 *
 * @throws Error if one of the demo's usernames exists: an existing account must not get a well-known password.
 */
export async function fillDemo(client: pg.ClientBase, options: DemoOptions = {}): Promise<void> {
  const hashes = await Promise.all(
    demoUsers.map(async ({ password }) => await hashPassword(password, cheapCost)),
  );
  await inTransaction(client, async () => {
    await client.query('SELECT pg_advisory_xact_lock($1, $2)', demoLock);
    const { rowCount } = await client.query('SELECT FROM public.projects LIMIT 1');
    if (rowCount !== 0) return;
    await insertUsers(client, hashes);
    const dataset = generateDataset(createRandom(options.seed ?? 1), options.nowMs ?? Date.now());
    await insertDataset(client, dataset);
  });
}

async function insertUsers(client: pg.ClientBase, hashes: readonly string[]): Promise<void> {
  const usernames = demoUsers.map((user) => user.username);
  const taken = await client.query<{ username: string }>(
    'SELECT username FROM public.users WHERE username = ANY ($1)',
    [usernames],
  );
  if (taken.rows.length > 0) {
    const names = taken.rows.map((row) => row.username).join(', ');
    throw new Error(
      `The demo needs an empty database, but these users exist: ${names}. Use another database.`,
    );
  }
  await insertRows(
    client,
    `INSERT INTO public.users (username, email, password_hash, is_superuser)
     SELECT username, email, hash, superuser FROM rows ORDER BY rows.ordinality`,
    'username text, email text, hash text, superuser boolean',
    demoUsers.map(({ username, email, superuser }, index) => ({
      username,
      email,
      superuser,
      hash: hashes[index],
    })),
  );
  await insertRows(
    client,
    `INSERT INTO public.projects (id, name, description, created_at, updated_at)
     SELECT id, name, description, now() - interval '400 days', now() - interval '400 days' FROM rows`,
    'id uuid, name text, description text',
    demoProjects,
  );
  await insertRows(
    client,
    `INSERT INTO public.memberships (project_id, user_id, role_id)
     SELECT p.id, u.id, r.id FROM rows
     JOIN public.projects p ON p.name = rows.project
     JOIN public.users u ON u.username = rows.username
     JOIN public.roles r ON r.key = rows.role`,
    'username text, project text, role text',
    demoUsers.flatMap(({ username, roles }) =>
      Object.entries(roles).map(([project, role]) => ({ username, project, role })),
    ),
  );
}

type EnvironmentId = (projectId: string, key: EnvironmentKey) => string | undefined;

async function insertDataset(client: pg.ClientBase, dataset: DatasetBuilder): Promise<void> {
  const { rows } = await client.query<{ key: string; id: string }>(
    `UPDATE public.environments e SET created_at = p.created_at FROM public.projects p WHERE p.id = e.project_id
     RETURNING e.project_id || '/' || e.key AS key, e.id::text AS id`,
  );
  const environments = new Map(rows.map(({ key, id }) => [key, id]));
  const environmentId: EnvironmentId = (projectId, key) => environments.get(`${projectId}/${key}`);
  await insertFeatures(client, dataset, environmentId);
  await insertParts(client, dataset, environmentId);
  await insertVariantsAndTags(client, dataset, environmentId);
  // The row of a deleted environment may still exist.
  await client.query(
    `INSERT INTO flagcast.guarded_environments (environment_id, guarded_by)
     SELECT id, $2 FROM public.environments WHERE key = 'prod' AND project_id = ANY ($1)
     ON CONFLICT (environment_id) DO NOTHING`,
    [demoProjects.map(({ id }) => id), guardedBy],
  );
  await insertRequests(client, dataset, environmentId);
  await insertAudit(client, dataset, environmentId);
}

async function insertFeatures(
  client: pg.ClientBase,
  dataset: DatasetBuilder,
  environmentId: EnvironmentId,
): Promise<void> {
  const features = [...dataset.features.values()].sort((one, other) => one.createdAtMs - other.createdAtMs);
  await insertRows(
    client,
    `INSERT INTO public.features (id, project_id, key, name, description, kind, rollout_key, created_at, updated_at)
     SELECT id, project_id, key, name, description, kind, rollout_key, created_at, updated_at FROM rows`,
    `id uuid, project_id uuid, key text, name text, description text, kind text, rollout_key text,
     created_at timestamptz, updated_at timestamptz`,
    features.map((feature) => ({
      ...featureState(feature, 'prod'),
      project_id: feature.project.id,
      created_at: iso(feature.createdAtMs),
      updated_at: iso(feature.updatedAtMs),
    })),
  );
  await insertRows(
    client,
    `UPDATE public.feature_params p
     SET enabled = rows.enabled, default_value = rows.default_value,
       created_at = rows.created_at, updated_at = rows.updated_at
     FROM rows WHERE p.feature_id = rows.feature_id AND p.environment_id = rows.environment_id`,
    `feature_id uuid, environment_id bigint, enabled boolean, default_value text,
     created_at timestamptz, updated_at timestamptz`,
    features.flatMap((feature) =>
      Object.entries(feature.params).map(([key, params]) => ({
        feature_id: feature.id,
        environment_id: environmentId(feature.project.id, key as EnvironmentKey),
        enabled: params.enabled,
        default_value: params.defaultValue,
        created_at: iso(feature.createdAtMs),
        updated_at: iso(params.updatedAtMs),
      })),
    ),
  );
}

/** Inserts the rules and the schedules. */
async function insertParts(
  client: pg.ClientBase,
  dataset: DatasetBuilder,
  environmentId: EnvironmentId,
): Promise<void> {
  const rowsOf = (entity: string): object[] =>
    [...dataset.parts.values()]
      .filter((part) => part.entity === entity)
      .map(({ state, feature, environment, createdAtMs, updatedAtMs }) => ({
        ...state,
        project_id: feature.project.id,
        environment_id: environmentId(feature.project.id, environment),
        created_at: iso(createdAtMs),
        updated_at: iso(updatedAtMs),
      }));
  const common = 'id, project_id, feature_id, environment_id, created_at, updated_at, action';
  const commonTypes = `id uuid, project_id uuid, feature_id uuid, environment_id bigint,
     created_at timestamptz, updated_at timestamptz, action text`;
  await insertRows(
    client,
    `INSERT INTO public.rules (${common}, conditions, flag_variant_id, priority)
     SELECT ${common}, conditions, flag_variant_id, priority FROM rows`,
    `${commonTypes}, conditions jsonb, flag_variant_id uuid, priority int`,
    rowsOf('rule'),
  );
  await insertRows(
    client,
    `INSERT INTO public.feature_schedules (${common}, starts_at, ends_at, cron_expr, cron_duration, timezone)
     SELECT ${common}, starts_at, ends_at, cron_expr, CASE WHEN cron_expr IS NOT NULL THEN '9h' END, timezone FROM rows`,
    `${commonTypes}, starts_at timestamptz, ends_at timestamptz, cron_expr text, timezone text`,
    rowsOf('feature_schedule'),
  );
}

/** Tables that a Togglr has, and those of `install --tables` do not. Without foreign keys, because uninstall drops those. */
const hostTables = `
CREATE TABLE IF NOT EXISTS public.flag_variants (
  id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  feature_id uuid NOT NULL,
  environment_id bigint NOT NULL,
  name text NOT NULL,
  rollout_percent int NOT NULL,
  UNIQUE (feature_id, environment_id, name)
);
CREATE TABLE IF NOT EXISTS public.tags (
  id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  project_id uuid NOT NULL,
  slug text NOT NULL,
  name text NOT NULL,
  color text,
  UNIQUE (project_id, slug)
);
CREATE TABLE IF NOT EXISTS public.feature_tags (feature_id uuid, tag_id uuid, PRIMARY KEY (feature_id, tag_id))`;

async function insertVariantsAndTags(
  client: pg.ClientBase,
  { features }: DatasetBuilder,
  environmentId: EnvironmentId,
): Promise<void> {
  await client.query(hostTables);
  await insertRows(
    client,
    `INSERT INTO public.flag_variants (feature_id, environment_id, name, rollout_percent)
     SELECT feature_id, environment_id, name, rollout_percent FROM rows ON CONFLICT DO NOTHING`,
    'feature_id uuid, environment_id bigint, name text, rollout_percent int',
    [...features.values()].flatMap(({ id, project, params, template: { values } }) =>
      Object.keys(params).flatMap((key) =>
        values.map((name, index) => ({
          feature_id: id,
          environment_id: environmentId(project.id, key as EnvironmentKey),
          name,
          rollout_percent: Math.floor((100 + index) / values.length),
        })),
      ),
    ),
  );
  await insertRows(
    client,
    `INSERT INTO public.tags (project_id, slug, name, color)
     SELECT p.id, slug, rows.name, color FROM rows, public.projects p ON CONFLICT DO NOTHING`,
    'slug text, name text, color text',
    [
      { slug: 'experiment', name: 'Experiment', color: '#7048E8' },
      { slug: 'released', name: 'Released', color: '#2F9E44' },
    ],
  );
  await insertRows(
    client,
    `INSERT INTO public.feature_tags (feature_id, tag_id)
     SELECT f.id, t.id FROM rows JOIN public.features f ON f.id = feature_id
     JOIN public.tags t ON t.project_id = f.project_id AND t.slug = rows.slug
     ON CONFLICT DO NOTHING`,
    'feature_id uuid, slug text',
    [...features.values()].flatMap(({ id, template: { values, rollout } }) => [
      ...(values.length > 0 ? [{ feature_id: id, slug: 'experiment' }] : []),
      ...(rollout === 'prod' ? [{ feature_id: id, slug: 'released' }] : []),
    ]),
  );
}

async function insertAudit(
  client: pg.ClientBase,
  dataset: DatasetBuilder,
  environmentId: EnvironmentId,
): Promise<void> {
  await insertRows(
    client,
    `INSERT INTO public.audit_log
       (feature_id, entity, entity_id, actor, username, action, old_value, new_value, request_id, project_id, environment_id, created_at)
     SELECT feature_id, entity, entity_id, CASE WHEN username IS NULL THEN 'system' ELSE 'user' END, username,
       action, old_value, new_value, request_id, project_id, environment_id, created_at
     FROM rows ORDER BY rows.ordinality`,
    `feature_id uuid, entity text, entity_id uuid, username text, action text, old_value jsonb, new_value jsonb,
     request_id uuid, project_id uuid, environment_id bigint, created_at timestamptz`,
    dataset.audit.map((entry) => ({
      feature_id: entry.featureId,
      entity: entry.entity,
      entity_id: entry.entityId,
      username: entry.username,
      action: entry.action,
      old_value: entry.oldValue,
      new_value: entry.newValue,
      request_id: entry.requestId,
      project_id: entry.projectId,
      environment_id: environmentId(entry.projectId, entry.environment),
      created_at: iso(entry.atMs),
    })),
  );
}

async function insertRequests(
  client: pg.ClientBase,
  { requests }: DatasetBuilder,
  environmentId: EnvironmentId,
): Promise<void> {
  await insertRows(
    client,
    `INSERT INTO public.pending_changes
       (id, project_id, environment_id, requested_by, request_user_id, change, status, created_at,
        approved_by, approved_user_id, approved_at, rejected_by, rejected_at, rejection_reason)
     SELECT rows.id, project_id, environment_id, requested_by, requester.id, change, status, rows.created_at,
       approved_by, approver.id, approved_at, rejected_by, rejected_at, rejection_reason
     FROM rows
     JOIN public.users requester ON requester.username = requested_by
     LEFT JOIN public.users approver ON approver.username = approved_by
     ORDER BY rows.ordinality`,
    `id uuid, project_id uuid, environment_id bigint, requested_by text, change jsonb, status text,
     created_at timestamptz, approved_by text, approved_at timestamptz, rejected_by text, rejected_at timestamptz,
     rejection_reason text`,
    requests.map((request) => {
      const decidedAt = request.decidedAtMs === null ? null : iso(request.decidedAtMs);
      const approved = request.status === 'approved';
      return {
        id: request.id,
        project_id: request.feature.project.id,
        environment_id: environmentId(request.feature.project.id, request.environment),
        requested_by: request.requestedBy,
        change: request.change,
        status: request.status,
        created_at: iso(request.atMs),
        approved_by: approved ? request.decidedBy : null,
        approved_at: approved ? decidedAt : null,
        rejected_by: approved ? null : request.decidedBy,
        rejected_at: approved ? null : decidedAt,
        rejection_reason: request.rejectionReason,
      };
    }),
  );
  await insertRows(
    client,
    `INSERT INTO public.pending_change_entities (pending_change_id, entity, entity_id, created_at)
     SELECT pending_change_id, entity, entity_id, created_at FROM rows ORDER BY rows.ordinality`,
    'pending_change_id uuid, entity text, entity_id uuid, created_at timestamptz',
    requests.map((request) => ({
      pending_change_id: request.id,
      entity: request.entity,
      entity_id: request.entityId,
      created_at: iso(request.atMs),
    })),
  );
}

/** Runs `statement` with the relation `rows`, which has the given columns and `ordinality`, the number of the row. */
async function insertRows(
  client: pg.ClientBase,
  statement: string,
  columns: string,
  rows: readonly object[],
): Promise<void> {
  await client.query(
    `WITH rows AS (
       SELECT * FROM ROWS FROM (jsonb_to_recordset($1::jsonb) AS (${columns})) WITH ORDINALITY AS r
     ) ${statement}`,
    [JSON.stringify(rows)],
  );
}

function iso(atMs: number): string {
  return new Date(atMs).toISOString();
}
