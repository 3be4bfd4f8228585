import { hashSync } from 'bcryptjs';
import { beforeEach, describe, expect, it } from 'vitest';
import { hashPassword } from '../../server/password.js';
import {
  type Answer,
  decide,
  historyOf,
  createRestFixture,
  useTogglrRestFixture,
  roles,
  type UserName,
  requestChange,
  seenBy,
  send,
} from '../../../server/test/rest-fixture.js';
import { startTestServer, testPasswordCost } from '../../../server/test/server.js';

const password = 'correct horse battery';

const { rest, host } = await useTogglrRestFixture();
await rest.guard(rest.shop.environments.prod);

beforeEach(async () => {
  await rest.pool.query('UPDATE users SET password_hash = $1, two_fa_enabled = false', [
    hashSync(password, 4),
  ]);
});

async function decideWith(
  who: UserName,
  changeId: string,
  body: object = { password },
  step = 'approve',
): Promise<Answer> {
  return await decide(rest, who, changeId, step, body);
}

async function statusOf(changeId: string): Promise<unknown> {
  const { rows } = await rest.pool.query<{ status: string }>(
    'SELECT status FROM pending_changes WHERE id = $1',
    [changeId],
  );
  return rows[0]?.status;
}

const refusedWith = (status: number, code: string): object => ({ status, body: { code } });

describe('on the database of a Togglr', () => {
  it('owners, managers, superusers and project_approvers decide, independent of the permissions on features', async () => {
    await rest.pool.query(
      `INSERT INTO role_permissions SELECT r.id, p.id FROM roles r, permissions p
       WHERE r.key = 'project_member' AND p.key = 'feature.manage'`,
    );
    const decides = async (): Promise<object> => {
      const found: Partial<Record<UserName, unknown>> = {};
      for (const who of Object.keys(roles) as UserName[]) {
        const { changeId } = await requestChange(rest, 'bob');
        const { body } = await rest.ask(who, 'GET', '/api/pending-changes');
        const listed = (body['pending_changes'] as { id: string; may_decide: boolean }[]).find(
          ({ id }) => id === changeId,
        );
        const { status } = await decideWith(who, changeId);
        found[who] = [listed?.may_decide, status];
      }
      return found;
    };
    const expected = {
      alice: [true, 200],
      erin: [true, 200],
      bob: [false, 403],
      carol: [false, 403],
      dave: [undefined, 403],
      root: [true, 200],
    };
    expect(await decides()).toStrictEqual(expected);
    await rest.pool.query(
      `INSERT INTO project_approvers (project_id, user_id, role)
       SELECT $1, id, 'approver' FROM users WHERE username IN ('bob', 'carol')`,
      [rest.shop.projectId],
    );
    expect(await decides()).toStrictEqual({ ...expected, carol: [true, 200] });
    await rest.pool.query('ALTER TABLE project_approvers RENAME TO project_approvers_later');
    expect(await decides()).toStrictEqual(expected);
    await rest.pool.query('ALTER TABLE project_approvers_later RENAME TO project_approvers');
  });

  it.each([
    ['approve', {}],
    ['reject', { reason: 'Not before Monday' }],
  ])('the decision to %s requires the password again', async (step, body) => {
    const { changeId, featureId } = await requestChange(rest, 'bob');
    expect(await decideWith('alice', changeId, body, step)).toMatchObject(
      refusedWith(403, 'password_required'),
    );
    expect(await decideWith('alice', changeId, { ...body, password: 'guess' }, step)).toMatchObject(
      refusedWith(403, 'password_wrong'),
    );
    expect(await statusOf(changeId)).toBe('pending');
    expect(await historyOf(rest.pool, featureId)).toStrictEqual([]);
    expect(await decideWith('alice', changeId, { ...body, password }, step)).toMatchObject({ status: 200 });
  });

  it('cancelling requires no password', async () => {
    const { changeId } = await requestChange(rest, 'bob');
    expect(await decide(rest, 'bob', changeId, 'cancel')).toMatchObject({ status: 200 });
  });

  it('passwords that this server has hashed are accepted as well', async () => {
    const { changeId } = await requestChange(rest, 'bob');
    await rest.pool.query('UPDATE users SET password_hash = $1', [
      await hashPassword(password, testPasswordCost),
    ]);
    expect(await decideWith('alice', changeId)).toMatchObject({ status: 200 });
  });

  it.each([
    ['two factors', 'two_fa_enabled = true'],
    ['no password', "password_hash = ''"],
    ['a password that another service checks', "password_hash = '{LDAP}'"],
    ['a hash that would take minutes', "password_hash = overlay(password_hash placing '20' from 5)"],
  ])('users with %s are referred to the console of Togglr', async (_, change) => {
    const { changeId } = await requestChange(rest, 'bob');
    await rest.pool.query(`UPDATE users SET ${change}`);
    const answer = await decideWith('alice', changeId);
    expect(answer).toMatchObject(refusedWith(403, 'decide_elsewhere'));
    expect(answer.body.message).toContain("Togglr's own console");
    expect(await statusOf(changeId)).toBe('pending');
    const { body } = await rest.ask('alice', 'GET', '/api/auth/me');
    expect(body['decisions']).toBe('elsewhere');
  });

  it('a server that may not read passwords refers all users to the console of Togglr', async () => {
    const { changeId } = await requestChange(rest, 'bob');
    await rest.pool.query(
      `REVOKE SELECT ON users FROM ${host.backend};
       GRANT SELECT (id, username, is_active, is_superuser) ON users TO ${host.backend}`,
    );
    const server = await startTestServer(host.urlOf(host.backend), { writes: true });
    const headers = { Authorization: `Bearer ${rest.users.alice.token}` };
    const path = `/api/pending-changes/${changeId}/approve`;
    const seen = await seenBy(rest, 'alice', changeId);
    expect(await send(server.httpUrl, 'POST', path, { ...seen, password }, headers)).toMatchObject({
      status: 403,
      body: { code: 'decide_elsewhere', message: expect.stringContaining('password_hash') as string },
    });
    await server.close();
    await rest.pool.query(`GRANT SELECT ON users TO ${host.backend}`);
  });

  it('users that the host authenticates also need the password of the table users', async () => {
    const { changeId } = await requestChange(rest, 'bob');
    const server = await startTestServer(host.database.url, {
      writes: true,
      auth: {
        authenticate: async () => await Promise.resolve({ id: rest.users.alice.id, username: 'alice' }),
      },
    });
    const path = `/api/pending-changes/${changeId}/approve`;
    const seen = await seenBy(rest, 'alice', changeId);
    expect(await send(server.httpUrl, 'POST', path, seen)).toMatchObject(
      refusedWith(403, 'password_required'),
    );
    expect(await send(server.httpUrl, 'POST', path, { ...seen, password })).toMatchObject({ status: 200 });
    await server.close();
  });

  it('wrong passwords have the same limit as at sign-in', async () => {
    const server = await startTestServer(host.database.url, { writes: true });
    const { changeId } = await requestChange(rest, 'bob');
    const headers = { Authorization: `Bearer ${rest.users.alice.token}` };
    const path = `/api/pending-changes/${changeId}/approve`;
    const seen = await seenBy(rest, 'alice', changeId);
    for (let attempt = 1; attempt <= 10; attempt += 1) {
      const guess = { ...seen, password: `guess ${attempt}` };
      expect(await send(server.httpUrl, 'POST', path, guess, headers)).toMatchObject(
        refusedWith(403, 'password_wrong'),
      );
    }
    const answer = await send(server.httpUrl, 'POST', path, { ...seen, password }, headers);
    expect(answer).toMatchObject(refusedWith(429, 'too_many_attempts'));
    expect(Number(answer.headers.get('retry-after'))).toBeGreaterThan(200);
    await server.close();
  });

  it('/api/auth/me reports that decisions require the password', async () => {
    const { body } = await rest.ask('alice', 'GET', '/api/auth/me');
    expect(body['decisions']).toBe('password');
  });
});

it('decisions need no password on the tables of Flagcast, and /api/auth/me reports that', async () => {
  const own = await createRestFixture();
  const { body } = await own.ask('alice', 'GET', '/api/auth/me');
  expect(body['decisions']).toBe('direct');
  await own.close();
});
