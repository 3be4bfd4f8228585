import { once } from 'node:events';
import { type IncomingMessage, request as httpRequest } from 'node:http';
import { buffer, text } from 'node:stream/consumers';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { insertAudit } from '../../../server/test/database.js';
import { createRestFixture, type RestFixture, type UserName } from '../../../server/test/rest-fixture.js';
import { nextEvent } from '../../../server/test/server.js';

let rest: RestFixture;
let prod: { projectId: string; environmentId: string };
const open: IncomingMessage[] = [];

beforeAll(async () => {
  rest = await createRestFixture({ timeouts: { queryTimeoutMs: 1_500 } });
  prod = { projectId: rest.shop.projectId, environmentId: rest.shop.environments.prod };
});

afterEach(async () => {
  for (const response of open.splice(0)) response.destroy();
  await rest.pool.query('TRUNCATE audit_log');
});

afterAll(async () => await rest.close());

/** Requests an export, and reads no more than the head of the response. */
async function ask(
  query: Record<string, string>,
  who: UserName = 'carol',
  place: Record<string, string> = { project_id: prod.projectId, env: 'prod' },
): Promise<IncomingMessage> {
  const parameters = new URLSearchParams({ ...place, ...query });
  const asked = httpRequest(`${rest.server.httpUrl}/api/audit/export?${parameters.toString()}`, {
    agent: false,
    headers: { Authorization: `Bearer ${rest.users[who].token}` },
  }).end();
  const [response] = (await once(asked, 'response')) as [IncomingMessage];
  response.on('error', () => undefined);
  open.push(response);
  return response;
}

async function read(...asked: Parameters<typeof ask>): Promise<string> {
  const response = await ask(...asked);
  expect(response.statusCode).toBe(200);
  // Keeps the byte order mark.
  return (await buffer(response)).toString();
}

/** Parses RFC 4180. */
function parseCsv(file: string): string[][] {
  const records = file.matchAll(/((?:"(?:[^"]|"")*"|[^",\r\n]*)(?:,(?:"(?:[^"]|"")*"|[^",\r\n]*))*)\r\n/g);
  return [...records].map(([, record = '']) =>
    [...record.matchAll(/(?:^|,)(?:"((?:[^"]|"")*)"|([^",\r\n]*))/g)].map(
      ([, quoted, plain]) => quoted?.replaceAll('""', '"') ?? plain ?? '',
    ),
  );
}

/** The records of a CSV file by the names of their columns. */
function recordsOf(file: string): Record<string, string>[] {
  const [header = [], ...records] = parseCsv(file.replace(/^\uFEFF/, ''));
  return records.map((record) => {
    expect(record).toHaveLength(header.length);
    return Object.fromEntries(header.map((name, index) => [name, record[index] ?? '']));
  });
}

const linesOf = (file: string): { audit_id: string | null; username: string | null; next?: string }[] =>
  file
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as ReturnType<typeof linesOf>[number]);

/** Rows that are too large for the buffers of a connection; returns their number. */
async function fillLarge(): Promise<number> {
  await rest.pool.query(
    `INSERT INTO audit_log (project_id, environment_id, feature_id, entity, entity_id, actor, username, action, new_value)
     SELECT $1, $2, gen_random_uuid(), 'feature', gen_random_uuid(), 'user', 'before', 'update',
       jsonb_build_object('text', repeat(n::text || ' ', 10000)) FROM generate_series(1, 600) AS n`,
    [prod.projectId, prod.environmentId],
  );
  return 600;
}

describe('an export of the history', () => {
  it('as CSV has a header, quoted texts, microseconds, all digits, and no formulas', async () => {
    const { featureId } = await insertAudit(rest.pool, {
      ...prod,
      action: 'delete',
      username: '=HYPERLINK("http://evil.example","me")',
      createdAt: '2026-03-01T10:00:00.123456Z',
      oldValue: { key: '@key', name: '\tName, "quoted"\r\nand more' },
    });
    await rest.pool.query(`UPDATE audit_log SET new_value = '{"number": 12345678901234567890}'`);
    const file = await read({ format: 'csv' });
    expect(file.startsWith('\uFEFFcreated_at,requested_at,project,environment,username,')).toBe(true);
    expect(file.endsWith('\r\n')).toBe(true);
    expect(recordsOf(file)).toMatchObject([
      {
        created_at: '2026-03-01T10:00:00.123456Z',
        project: 'Shop',
        environment: 'prod',
        username: `'=HYPERLINK("http://evil.example","me")`,
        action: 'deleted',
        feature_id: featureId,
        feature_key: "'@key",
        feature_name: '\'\tName, "quoted"\r\nand more',
        feature_deleted: 'true',
        new_value: '{"number": 12345678901234567890}',
        reason: '',
      },
    ]);
    await rest.pool.query('TRUNCATE audit_log');
    for (const username of ['=1', '+1', '-1', '@a', '\ta', '\ra', '\na', ' =1', '\u00A0+1', '＝1', '＠a'])
      await insertAudit(rest.pool, { ...prod, username });
    expect(recordsOf(await read({ format: 'csv' })).every(({ username }) => username?.startsWith("'"))).toBe(
      true,
    );
  });

  it('has every entry once, over pages, in all formats, with the filters of the history', async () => {
    await rest.pool.query(
      `INSERT INTO audit_log (project_id, environment_id, feature_id, entity, entity_id, actor, username, action, created_at)
       SELECT $1, $2, gen_random_uuid(), 'feature', gen_random_uuid(), 'user', 'user ' || n % 2, 'update',
         '2026-01-01T00:00:00Z'::timestamptz + n * interval '1 s' FROM generate_series(1, 1300) AS n`,
      [prod.projectId, prod.environmentId],
    );
    const { rows } = await rest.pool.query<{ id: string }>(
      'SELECT id::text FROM audit_log a ORDER BY a.id DESC',
    );
    const ids = rows.map(({ id }) => id);
    expect(linesOf(await read({ format: 'ndjson' })).map(({ audit_id: id }) => id)).toStrictEqual(ids);
    expect(recordsOf(await read({ format: 'csv' })).map(({ audit_id: id }) => id)).toStrictEqual(ids);
    const filter = { username: 'user 1', since: '2026-01-01T00:00:01Z', until: '2026-01-01T00:00:10Z' };
    const json = JSON.parse(await read({ format: 'json', ...filter })) as {
      entries: { created_at: string; username: string }[];
    };
    expect(json).toMatchObject({ next: null, searched_until: null });
    expect(json.entries.map(({ created_at: at }) => at)).toStrictEqual(
      [9, 7, 5, 3, 1].map((second) => `2026-01-01T00:00:0${second}.000000Z`),
    );
    expect(JSON.parse(await read({ format: 'json', username: 'nobody' }))).toStrictEqual({
      entries: [],
      next: null,
      searched_until: null,
    });
  });

  it('of all projects has what the user may see, and no rows without a project', async () => {
    await rest.pool.query('ALTER TABLE audit_log ALTER project_id DROP NOT NULL');
    const own = await insertAudit(rest.pool, prod);
    const { projectId, environments } = rest.billing;
    const other = await insertAudit(rest.pool, { projectId, environmentId: environments.dev });
    const nowhere = await insertAudit(rest.pool, prod);
    await rest.pool.query('UPDATE audit_log SET project_id = NULL WHERE id = $1', [nowhere.id]);
    const all = async (who: UserName) =>
      linesOf(await read({ format: 'ndjson' }, who, { projects: 'all' })).map(({ audit_id: id }) => id);
    expect(await all('carol')).toStrictEqual([own.id]);
    expect(await all('dave')).toStrictEqual([other.id]);
    expect(await all('root')).toStrictEqual([other.id, own.id]);
  });

  it('is named after the project and the range', async () => {
    const name = async (...asked: Parameters<typeof ask>): Promise<string | undefined> =>
      (await ask(...asked)).headers['content-disposition'];
    const range = { since: '2026-01-01T00:00:00Z', until: '2026-02-01T00:00:00Z' };
    expect(await name({ format: 'csv', ...range })).toBe(
      `attachment; filename="audit-Shop-prod-2026-01-01T00-00-00Z-to-2026-02-01T00-00-00Z.csv"; filename*=UTF-8''audit-Shop-prod-2026-01-01T00-00-00Z-to-2026-02-01T00-00-00Z.csv`,
    );
    expect(await name({ format: 'ndjson', ...range }, 'root', { projects: 'all' })).toContain(
      'filename="audit-all-projects-2026-01-01T00-00-00Z-to-2026-02-01T00-00-00Z.ndjson"',
    );
    await rest.pool.query(`UPDATE projects SET name = 'Магазин/1' WHERE id = $1`, [prod.projectId]);
    expect(await name({ format: 'json', ...range })).toContain(
      `filename*=UTF-8''${encodeURIComponent('audit-Магазин-1-prod-')}`,
    );
    await rest.pool.query(`UPDATE projects SET name = repeat('𐌰', 128) WHERE id = $1`, [prod.projectId]);
    expect(decodeURIComponent((await name({ format: 'json', ...range })) ?? '')).toContain(
      `audit-${'𐌰'.repeat(128)}-prod-`,
    );
    await rest.pool.query(`UPDATE projects SET name = 'Shop' WHERE id = $1`, [prod.projectId]);
  });

  it('says in its last record if it does not have all entries, and where to continue', async () => {
    for (let count = 0; count < 5; count += 1) await insertAudit(rest.pool, prod);
    const lines = linesOf(await read({ format: 'ndjson', limit: '3' }));
    expect(lines).toHaveLength(4);
    const next = lines.at(-1)?.next ?? '';
    expect(linesOf(await read({ format: 'ndjson', limit: '3', before: next }))).toHaveLength(2);
    expect(JSON.parse(await read({ format: 'json', limit: '3' }))).toMatchObject({ next });
    expect(recordsOf(await read({ format: 'csv', limit: '3' })).at(-1)).toMatchObject({
      created_at: `incomplete: older entries follow, export them with before=${next}`,
      username: '',
    });
  });
});

describe('the client of an export', () => {
  it('that reads slowly gets each page as it is then, and nothing is held meanwhile', async () => {
    const count = await fillLarge();
    const response = await ask({ format: 'ndjson' });
    // The server has filled the buffers of the connection when no statement of it runs any more.
    await expect
      .poll(async () => {
        const { rowCount } = await rest.pool.query(
          `SELECT FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'flagcast requests%'
             AND (state <> 'idle' OR state_change > clock_timestamp() - interval '300 ms')`,
        );
        return rowCount;
      })
      .toBe(0);
    await rest.pool.query(
      `BEGIN; LOCK TABLE audit_log IN ACCESS EXCLUSIVE MODE NOWAIT; UPDATE audit_log SET username = 'after'; COMMIT`,
    );
    const lines = linesOf(await text(response));
    expect(lines).toHaveLength(count);
    expect(lines.at(0)?.username).toBe('before');
    expect(lines.at(-1)?.username).toBe('after');
  });

  it('has one slot of its user until it disconnects, and leaves the other one to pages', async () => {
    await fillLarge();
    const first = await ask({ format: 'csv' });
    let isAnswered = false;
    const second = ask({ format: 'csv' }).then((response) => {
      isAnswered = true;
      return response;
    });
    for (const who of ['carol', 'alice'] as const) {
      const { status } = await rest.ask(who, 'GET', `/api/audit?project_id=${prod.projectId}&env=prod`);
      expect(status).toBe(200);
    }
    expect(isAnswered).toBe(false);
    first.destroy();
    expect((await second).statusCode).toBe(200);
  });

  it.each([
    ['the database fails', 'ALTER TABLE audit_log RENAME TO lost', 'ALTER TABLE lost RENAME TO audit_log'],
    [
      'the user loses the right to see the project',
      `UPDATE memberships SET user_id = (SELECT id FROM users WHERE username = 'dave')
       WHERE user_id = (SELECT id FROM users WHERE username = 'carol')`,
      `UPDATE memberships SET user_id = (SELECT id FROM users WHERE username = 'carol')
       WHERE user_id = (SELECT id FROM users WHERE username = 'dave') AND project_id = (SELECT id FROM projects WHERE name = 'Shop')`,
    ],
  ])('notices that it is incomplete if %s in the middle', async (_, fail, repair) => {
    await fillLarge();
    const response = await ask({ format: 'csv' });
    const failed = nextEvent(rest.server.flagcast.lifecycle, 'access:failed');
    await rest.pool.query(fail);
    await expect(text(response)).rejects.toThrow('aborted');
    expect(await failed).toMatchObject({ request: 'GET /api/audit/export' });
    expect(response.complete).toBe(false);
    await rest.pool.query(repair);
    expect((await ask({ format: 'csv' })).statusCode).toBe(200);
  });

  it('gets a refusal as an answer if the first page cannot be read', async () => {
    const holder = await rest.pool.connect();
    await holder.query('BEGIN; LOCK TABLE audit_log IN ACCESS EXCLUSIVE MODE');
    const response = await ask({ format: 'csv' });
    expect([response.statusCode, JSON.parse(await text(response))]).toMatchObject([
      503,
      { code: 'unavailable' },
    ]);
    await holder.query('ROLLBACK');
    holder.release();
    expect((await ask({ format: 'xml' })).statusCode).toBe(400);
    expect((await ask({ format: 'csv', limit: '1000001' })).statusCode).toBe(400);
    expect((await ask({ format: 'csv' }, 'dave')).statusCode).toBe(403);
    const both = { projects: 'all', project_id: prod.projectId, env: 'prod' };
    expect((await ask({ format: 'csv' }, 'carol', both)).statusCode).toBe(400);
  });
});
