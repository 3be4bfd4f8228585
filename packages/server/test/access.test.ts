import { randomUUID } from 'node:crypto';
import type pg from 'pg';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { TableAuthorization } from '../src/auth/table-authorization.js';
import { type ChannelRequest, type User, viewerKey } from '../src/auth/authorization.js';
import { createTestDatabase, createTestPool } from './database.js';

let database: Awaited<ReturnType<typeof createTestDatabase>>;
let pool: pg.Pool;
/** How many queries the pool was asked to run. */
let queries = 0;
let access: TableAuthorization;
/** A superuser. */
let root: string;

beforeAll(async () => {
  database = await createTestDatabase({ schema: 'tables' });
  pool = createTestPool(database.url);
  pool.on('acquire', () => {
    queries += 1;
  });
  root = await makeUser({ superuser: true });
});
beforeEach(() => {
  access = new TableAuthorization(pool);
  queries = 0;
});
afterEach(() => vi.useRealTimers());
afterAll(async () => {
  await pool.end();
  await database.drop();
});

async function run(text: string, values: unknown[] = []): Promise<string> {
  const { rows } = await database.pool.query<{ id: string }>(text, values);
  return rows[0]?.id ?? '';
}

async function makeProject(name: string = randomUUID()): Promise<string> {
  return await run('INSERT INTO projects (name) VALUES ($1) RETURNING id', [name]);
}

async function environmentOf(projectId: string, key: string): Promise<string> {
  return await run('SELECT id::text FROM environments WHERE project_id = $1 AND key = $2', [projectId, key]);
}

async function makeUser(
  options: { superuser?: boolean; active?: boolean; username?: string } = {},
): Promise<string> {
  const username = options.username ?? randomUUID();
  return await run(
    `INSERT INTO users (username, email, password_hash, is_superuser, is_active)
     VALUES ($1, $1, 'x', $2, $3) RETURNING id::text`,
    [username, options.superuser ?? false, options.active ?? true],
  );
}

async function join(userId: string, projectId: string, roleKey: string): Promise<void> {
  await run(
    'INSERT INTO memberships (user_id, project_id, role_id) SELECT $1, $2, id FROM roles WHERE key = $3',
    [userId, projectId, roleKey],
  );
}

async function openAsRoot(wanted: ChannelRequest): ReturnType<TableAuthorization['openChannel']> {
  return await access.openChannel(root, wanted);
}

async function mayView(userId: string, projectId: string): Promise<boolean> {
  return typeof (await access.openChannel(userId, { projectId, environmentKey: 'prod' })) !== 'string';
}

describe('a channel', () => {
  it('is found by its key and by its id, with the ids as the database writes them', async () => {
    const projectId = await makeProject();
    const environmentId = await environmentOf(projectId, 'stage');
    const channel = { projectId, environmentId, environmentKey: 'stage' };
    expect(await openAsRoot({ projectId, environmentKey: 'stage' })).toStrictEqual(channel);
    expect(await openAsRoot({ projectId, environmentId })).toStrictEqual(channel);
    const shouted = { projectId: projectId.toUpperCase(), environmentId: `00${environmentId}` };
    expect(await openAsRoot(shouted)).toStrictEqual(channel);
  });

  it('is not found in another project', async () => {
    const [projectId, otherId] = [await makeProject(), await makeProject()];
    const environmentId = await environmentOf(otherId, 'prod');
    expect(await openAsRoot({ projectId, environmentId })).toBe('unknown_environment');
  });

  it.each(['qa', 'PROD', 'prod ', '', '1', "'; --", 'prod\0', '\uD800'])(
    'is unknown by the key %j',
    async (environmentKey) => {
      const projectId = await makeProject();
      expect(await openAsRoot({ projectId, environmentKey })).toBe('unknown_environment');
    },
  );

  it.each([
    '0',
    '-1',
    '+1',
    '1.5',
    '1e3',
    ' 1',
    '',
    'prod',
    '9223372036854775807',
    '9223372036854775808',
    '9'.repeat(99),
    '1\0',
  ])('is unknown by the id %j', async (environmentId) => {
    const projectId = await makeProject();
    expect(await openAsRoot({ projectId, environmentId })).toBe('unknown_environment');
  });

  it.each([
    randomUUID(),
    '',
    '1',
    'abc123',
    "' OR true --",
    '\0',
    `${randomUUID()}\n`,
    `{${randomUUID()}}`,
    'g'.repeat(36),
  ])('is unknown in the project %j', async (projectId) => {
    expect(await openAsRoot({ projectId, environmentKey: 'prod' })).toBe('unknown_project');
    expect(await openAsRoot({ projectId, environmentId: 'junk' })).toBe('unknown_project');
  });

  it('is found by one query for requests at the same time, and looked up again for later ones', async () => {
    const projectId = await makeProject();
    const wanted = { projectId, environmentKey: 'prod' };
    const answers = await Promise.all(Array.from({ length: 50 }, async () => await openAsRoot(wanted)));
    expect(new Set(answers).size).toBe(1);
    expect(answers[0]).toMatchObject({ projectId });
    expect(queries).toBe(1);
    await run('DELETE FROM environments WHERE project_id = $1', [projectId]);
    expect(await openAsRoot(wanted)).toBe('unknown_environment');
  });

  it('is found immediately after it was created', async () => {
    const projectId = randomUUID();
    const request = { projectId, environmentKey: 'qa' };
    expect(await openAsRoot(request)).toBe('unknown_project');
    await run('INSERT INTO projects (id, name) VALUES ($1, $2)', [projectId, randomUUID()]);
    expect(await openAsRoot(request)).toBe('unknown_environment');
    await run("INSERT INTO environments (project_id, key, name) VALUES ($1, 'qa', 'QA')", [projectId]);
    expect(await openAsRoot(request)).toMatchObject({ environmentKey: 'qa' });
  });

  it('is found by its key although another channel has that key as its id', async () => {
    const projectId = await makeProject();
    const environmentId = await environmentOf(projectId, 'prod');
    const otherId = await run(
      "INSERT INTO environments (project_id, key, name) VALUES ($1, $2, 'x') RETURNING id::text",
      [projectId, environmentId],
    );
    expect(await openAsRoot({ projectId, environmentId })).toMatchObject({ environmentId });
    const byKey = await openAsRoot({ projectId, environmentKey: environmentId });
    expect(byKey).toMatchObject({ environmentId: otherId });
  });
});

describe('findUser', () => {
  it('finds a user by id and by the exact name', async () => {
    const username = `Ada ${randomUUID()}`;
    const id = await makeUser({ username });
    const user: User = { id, username, active: true, superuser: false };
    expect(await access.findUser({ user: { id } })).toStrictEqual(user);
    expect(await access.findUser({ user: { username } })).toStrictEqual(user);
    expect(await access.findUser({ user: { username: username.toLowerCase() } })).toBeNull();
  });

  it('reads whether the user is active and a superuser each time', async () => {
    const id = await makeUser({ superuser: true, active: false });
    expect(await access.findUser({ user: { id } })).toMatchObject({ active: false, superuser: true });
    await run('UPDATE users SET is_active = true, is_superuser = false WHERE id = $1', [id]);
    expect(await access.findUser({ user: { id } })).toMatchObject({ active: true, superuser: false });
  });

  it.each([
    { id: '0' },
    { id: '2147483648' },
    { id: '9'.repeat(30) },
    { id: '-1' },
    { id: 'ada' },
    { id: '' },
    { username: '' },
    { username: "' OR true --" },
    { username: 'ada\0' },
    { email: '' },
    { email: 'ada\0@example.com' },
    { email: '%@example.com' },
  ])('finds no user for %j', async (user) => {
    expect(await access.findUser({ user })).toBeNull();
  });
});

describe('a user who may view a project', () => {
  it.each(['project_owner', 'project_manager', 'project_member', 'project_viewer'])(
    'is a %s',
    async (role) => {
      const [userId, projectId, otherId] = [await makeUser(), await makeProject(), await makeProject()];
      await join(userId, projectId, role);
      expect(await mayView(userId, projectId)).toBe(true);
      expect(await mayView(userId, otherId)).toBe(false);
    },
  );

  it('is a superuser, for every project that exists', async () => {
    const [userId, projectId] = [await makeUser({ superuser: true }), await makeProject()];
    expect(await mayView(userId, projectId)).toBe(true);
    expect(await mayView(userId, randomUUID())).toBe(false);
  });

  it('is no other user', async () => {
    const projectId = await makeProject();
    await run("INSERT INTO roles (key, name) VALUES ('no_view', 'x')");
    await run(
      `INSERT INTO role_permissions (role_id, permission_id)
       SELECT r.id, p.id FROM roles r, permissions p WHERE r.key = 'no_view' AND p.key <> 'project.view'`,
    );
    const [stranger, blind, former, gone] = [
      await makeUser(),
      await makeUser(),
      await makeUser({ active: false }),
      await makeUser({ active: false, superuser: true }),
    ];
    await join(blind, projectId, 'no_view');
    await join(former, projectId, 'project_owner');
    for (const userId of [stranger, blind, former, gone, '0', '-1', '9'.repeat(30), 'ada', '', '1\0']) {
      expect(await mayView(userId, projectId)).toBe(false);
    }
  });

  it('does not exist for a malformed project id', async () => {
    const userId = await makeUser({ superuser: true });
    for (const projectId of ['', '1', 'abc', '\0', "' OR true --"]) {
      expect(await mayView(userId, projectId)).toBe(false);
    }
  });

  it('loses the right with the membership, at the next lookup', async () => {
    const [userId, projectId] = [await makeUser(), await makeProject()];
    await join(userId, projectId, 'project_viewer');
    expect(await mayView(userId, projectId)).toBe(true);
    await run('DELETE FROM memberships WHERE user_id = $1', [userId]);
    expect(await mayView(userId, projectId)).toBe(false);
  });

  it('is found by one query for all lookups at the same time', async () => {
    const [userId, otherId, projectId] = [
      await makeUser({ superuser: true }),
      await makeUser(),
      await makeProject(),
    ];
    const answers = await Promise.all([
      ...Array.from({ length: 20 }, async () => await mayView(userId, projectId)),
      ...Array.from({ length: 20 }, async () => await mayView(otherId, projectId)),
    ]);
    expect(answers).toStrictEqual([...Array<boolean>(20).fill(true), ...Array<boolean>(20).fill(false)]);
    expect(queries).toBe(1);
  });
});

describe('recheck', () => {
  it('returns the viewers who still have the right, by one query', async () => {
    const projectIds = [await makeProject(), await makeProject()];
    const [viewer, root, idle] = [await makeUser(), await makeUser({ superuser: true }), await makeUser()];
    await join(viewer, projectIds[0] ?? '', 'project_viewer');
    await join(idle, projectIds[0] ?? '', 'project_viewer');
    await run('UPDATE users SET is_active = false WHERE id = $1', [idle]);
    const pairs = [viewer, root, idle].flatMap((userId) =>
      projectIds.map((projectId) => ({ userId, projectId, environmentId: '1' })),
    );
    const junk = [
      { userId: 'ada', projectId: projectIds[0] ?? '', environmentId: '1' },
      { userId: root, projectId: 'junk', environmentId: '1' },
      { userId: root, projectId: randomUUID(), environmentId: '1' },
    ];
    const allowed = await access.recheck([...junk, ...pairs, ...pairs]);
    expect(queries).toBe(1);
    const expected = [pairs[0], pairs[2], pairs[3]].map((pair) =>
      viewerKey(pair ?? { userId: '', projectId: '', environmentId: '' }),
    );
    expect([...allowed].sort()).toStrictEqual(expected.sort());
  });

  it('returns the ids unchanged', async () => {
    const pair = {
      userId: `0${await makeUser({ superuser: true })}`,
      projectId: (await makeProject()).toUpperCase(),
      environmentId: '1',
    };
    expect(await access.recheck([pair])).toStrictEqual(new Set([viewerKey(pair)]));
  });

  it('sends no query without viewers', async () => {
    expect(await access.recheck([])).toStrictEqual(new Set());
    expect(await access.recheck([{ userId: 'ada', projectId: 'p', environmentId: '1' }])).toStrictEqual(
      new Set(),
    );
    expect(queries).toBe(0);
  });
});

describe('visibleProjects', () => {
  it('lists the projects of a member by name, with their environments', async () => {
    const suffix = randomUUID();
    const [userId, second, first] = [
      await makeUser(),
      await makeProject(`B ${suffix}`),
      await makeProject(`A ${suffix}`),
    ];
    const archived = await makeProject();
    await makeProject();
    for (const projectId of [second, first, archived]) await join(userId, projectId, 'project_viewer');
    await run('UPDATE projects SET archived_at = now() WHERE id = $1', [archived]);
    await run('DELETE FROM environments WHERE project_id = $1', [second]);
    expect(await access.visibleProjects(userId)).toStrictEqual([
      {
        id: first,
        name: `A ${suffix}`,
        environments: [
          { id: await environmentOf(first, 'prod'), key: 'prod', name: 'Production' },
          { id: await environmentOf(first, 'stage'), key: 'stage', name: 'Staging' },
          { id: await environmentOf(first, 'dev'), key: 'dev', name: 'Development' },
        ],
      },
      { id: second, name: `B ${suffix}`, environments: [] },
    ]);
  });

  it('lists all projects for a superuser and none for users without a role', async () => {
    const projectId = await makeProject();
    const [root, idle, stranger] = [
      await makeUser({ superuser: true }),
      await makeUser({ superuser: true, active: false }),
      await makeUser(),
    ];
    const ids = (await access.visibleProjects(root)).map((project) => project.id);
    expect(ids).toContain(projectId);
    for (const userId of [idle, stranger, '0', 'ada', '9'.repeat(30)]) {
      expect(await access.visibleProjects(userId)).toStrictEqual([]);
    }
  });
});

describe('lookups at the same time', () => {
  it('each get their own result', async () => {
    const [userId, otherId] = [await makeUser({ superuser: true }), await makeUser()];
    const [projectId, joinedId] = [await makeProject(), await makeProject()];
    await join(otherId, joinedId, 'project_viewer');
    const users = await Promise.all(
      [userId, otherId].map(async (id) => await access.findUser({ user: { id } })),
    );
    expect(users.map((user) => user?.id)).toStrictEqual([userId, otherId]);
    const lists = await Promise.all([userId, otherId].map(async (id) => await access.visibleProjects(id)));
    expect(lists[0]?.map((project) => project.id)).toContain(projectId);
    expect(lists[1]?.map((project) => project.id)).toStrictEqual([joinedId]);
    const channels = await Promise.all(
      ['prod', 'dev'].flatMap((environmentKey) =>
        [projectId, joinedId].map(async (id) => await openAsRoot({ projectId: id, environmentKey })),
      ),
    );
    expect(channels).toMatchObject([
      { projectId, environmentKey: 'prod' },
      { projectId: joinedId, environmentKey: 'prod' },
      { projectId, environmentKey: 'dev' },
      { projectId: joinedId, environmentKey: 'dev' },
    ]);
    const views = await Promise.all([projectId, joinedId].map(async (id) => await mayView(otherId, id)));
    expect(views).toStrictEqual([false, true]);
  });
});

describe('a database that fails', () => {
  it('rejects the lookup and answers the next one', async () => {
    const [userId, projectId] = [await makeUser({ superuser: true }), await makeProject()];
    await run('ALTER TABLE users RENAME TO users_away');
    try {
      const failed = await Promise.allSettled(
        Array.from({ length: 3 }, async () => await mayView(userId, projectId)),
      );
      expect(failed.map(({ status }) => status)).toStrictEqual(['rejected', 'rejected', 'rejected']);
    } finally {
      await run('ALTER TABLE users_away RENAME TO users');
    }
    expect(await mayView(userId, projectId)).toBe(true);
  });
});
