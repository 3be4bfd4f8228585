import { describe, expect, it } from 'vitest';
import { decide, useRestFixture, requestChange, seenBy } from '../../../server/test/rest-fixture.js';

const rest = await useRestFixture({ guarded: true });

interface Step {
  readonly action: string;
  readonly by: string | null;
  readonly reason: string | null;
}

async function detail(changeId: string): Promise<Record<string, unknown> & { readonly steps: Step[] }> {
  const { status, body } = await rest.ask('alice', 'GET', `/api/pending-changes/${changeId}`);
  expect(status).toBe(200);
  return body as Record<string, unknown> & { readonly steps: Step[] };
}

async function life(changeId: string): Promise<(string | null)[][]> {
  return (await detail(changeId)).steps.map(({ action, by, reason }) => [action, by, reason]);
}

async function list(query: Record<string, string>): Promise<{ ids: string[]; next: string | null }> {
  const path = `/api/pending-changes?${new URLSearchParams(query).toString()}`;
  const { status, body } = await rest.ask('alice', 'GET', path);
  expect({ path, status }).toStrictEqual({ path, status: 200 });
  const changes = body['pending_changes'] as { id: string }[];
  return { ids: changes.map(({ id }) => id), next: body['next'] as string | null };
}

describe('a decision is bound to what the user has seen', () => {
  it.each(['approve', 'reject'])(
    'to %s a request that the host has edited is refused, with the request as it is',
    async (step) => {
      const { changeId, featureId } = await requestChange(rest, 'erin', { default_value: 'a' });
      const seen = await seenBy(rest, 'alice', changeId);
      await rest.pool.query(
        `UPDATE pending_changes SET change = jsonb_set(change, '{entities,0,changes,default_value,new}', '"b"') WHERE id = $1`,
        [changeId],
      );
      const path = `/api/pending-changes/${changeId}/${step}`;
      const answer = await rest.ask('alice', 'POST', path, {
        ...seen,
        ...(step === 'reject' && { reason: 'No' }),
      });
      expect(answer).toMatchObject({
        status: 409,
        body: {
          code: 'stale_request',
          pending_change: {
            id: changeId,
            status: 'pending',
            entities: [{ feature_id: featureId, diff: [{ field: 'default_value', new: 'b' }] }],
          },
        },
      });
      expect((await detail(changeId))['status']).toBe('pending');
      expect((await decide(rest, 'alice', changeId, step)).status).toBe(200);
    },
  );

  it('to approve a change of a flag that has moved is refused until the user has seen its current values', async () => {
    const { changeId, featureId } = await requestChange(rest, 'erin', { default_value: 'after' });
    const seen = await seenBy(rest, 'alice', changeId);
    // Another field, so that the change itself does not conflict.
    await rest.pool.query(
      'UPDATE feature_params SET enabled = NOT enabled WHERE feature_id = $1 AND environment_id = $2',
      [featureId, rest.shop.environments.prod],
    );
    const path = `/api/pending-changes/${changeId}/approve`;
    const refused = await rest.ask('alice', 'POST', path, seen);
    expect(refused).toMatchObject({ status: 409, body: { code: 'stale_request' } });
    const { body } = await rest.ask('alice', 'GET', `/api/features/${featureId}?env=prod`);
    expect(body).toMatchObject({ feature: { default_value: '' } });
    expect((await decide(rest, 'alice', changeId, 'approve')).status).toBe(200);
  });

  it.each(['approve', 'reject', 'cancel'])('to %s is refused in an archived project', async (step) => {
    const { changeId, featureId } = await requestChange(rest, 'erin', { default_value: 'a' });
    const seen = await seenBy(rest, 'alice', changeId);
    const archive = 'UPDATE projects SET archived_at = $2 WHERE id = $1';
    await rest.pool.query(archive, [rest.shop.projectId, new Date()]);
    const body = { ...seen, ...(step === 'reject' && { reason: 'No' }) };
    const path = `/api/pending-changes/${changeId}/${step}`;
    for (const who of ['alice', 'erin', 'root'] as const) {
      const answer = await rest.ask(who, 'POST', path, step === 'cancel' ? undefined : body);
      expect(answer).toMatchObject({ status: 404, body: { code: 'unknown_change' } });
    }
    const write = { env: 'dev', version: await rest.version(featureId, 'dev'), enabled: true };
    const answer = await rest.ask('alice', 'PATCH', `/api/features/${featureId}`, write);
    expect(answer).toMatchObject({ status: 403, body: { code: 'forbidden' } });
    await rest.pool.query(archive, [rest.shop.projectId, null]);
    expect((await detail(changeId))['status']).toBe('pending');
  });

  it('shows three values of each field: when it was requested, now, and after', async () => {
    const { changeId, featureId } = await requestChange(rest, 'erin', { default_value: 'after' });
    await rest.pool.query(
      `UPDATE feature_params SET default_value = 'now' WHERE feature_id = $1 AND environment_id = $2`,
      [featureId, rest.shop.environments.prod],
    );
    expect(await detail(changeId)).toMatchObject({
      entities: [{ diff: [{ field: 'default_value', old: '', current: 'now', new: 'after' }] }],
    });
  });
});

describe('the life of a request', () => {
  /** Retention deletes all rows of the event log. */
  async function prune(): Promise<void> {
    await rest.pool.query(`UPDATE flagcast.event_log SET logged_at = now() - interval '8 days'`);
    await rest.pool.query(`SELECT flagcast.prune_event_log('7 days', 100000)`);
  }

  /** Deletes the steps, as if the log had begun later. */
  async function forgetSteps(changeId: string): Promise<void> {
    for (const table of ['event_log', 'request_steps']) {
      await rest.pool.query(`DELETE FROM flagcast.${table} WHERE pending_change_id = $1`, [changeId]);
    }
  }

  it('has each step with its user and reason, also of a cancellation here and of a reopened request', async () => {
    const rejected = (await requestChange(rest, 'bob')).changeId;
    await decide(rest, 'alice', rejected, 'reject');
    expect(await life(rejected)).toStrictEqual([
      ['pending', 'bob', 'The launch is today'],
      ['rejected', 'alice', 'Not before Monday'],
    ]);
    const cancelled = (await requestChange(rest, 'bob')).changeId;
    await decide(rest, 'bob', cancelled, 'cancel');
    expect(await life(cancelled)).toStrictEqual([
      ['pending', 'bob', 'The launch is today'],
      ['cancelled', 'bob', null],
    ]);
    await rest.pool.query(`UPDATE pending_changes SET status = 'pending' WHERE id = $1`, [cancelled]);
    await decide(rest, 'alice', cancelled, 'approve');
    expect((await life(cancelled)).map(([action]) => action)).toStrictEqual([
      'pending',
      'cancelled',
      'pending',
      'approved',
    ]);
  });

  it('keeps the reason of each step when the request is reopened, edited and decided again', async () => {
    const { changeId } = await requestChange(rest, 'bob');
    const reject = async (reason: string): Promise<void> => {
      const path = `/api/pending-changes/${changeId}/reject`;
      const body = { ...(await seenBy(rest, 'alice', changeId)), reason };
      expect((await rest.ask('alice', 'POST', path, body)).status).toBe(200);
    };
    await reject('NO-1');
    await rest.pool.query(
      `UPDATE pending_changes SET status = 'pending', rejected_by = NULL, rejected_at = NULL, rejection_reason = NULL
       WHERE id = $1`,
      [changeId],
    );
    await rest.pool.query(
      `UPDATE pending_changes SET change = jsonb_set(change, '{meta,reason}', '"Now without risk"') WHERE id = $1`,
      [changeId],
    );
    await reject('NO-2');
    const expected = [
      ['pending', 'bob', 'The launch is today'],
      ['rejected', 'alice', 'NO-1'],
      ['pending', null, null],
      ['updated', null, 'Now without risk'],
      ['rejected', 'alice', 'NO-2'],
    ];
    expect(await life(changeId)).toStrictEqual(expected);
    await rest.pool.query(`UPDATE pending_changes SET rejection_reason = 'NO-3' WHERE id = $1`, [changeId]);
    expect(await life(changeId)).toStrictEqual(expected);
    await prune();
    expect(await life(changeId)).toStrictEqual(expected);
  });

  it('has the reasons of the request where its steps were logged without them', async () => {
    const { changeId } = await requestChange(rest, 'bob');
    await decide(rest, 'alice', changeId, 'reject');
    await rest.pool.query(`UPDATE pending_changes SET status = 'pending' WHERE id = $1`, [changeId]);
    await decide(rest, 'alice', changeId, 'reject');
    await rest.pool.query('UPDATE flagcast.request_steps SET reason = NULL WHERE pending_change_id = $1', [
      changeId,
    ]);
    expect(await life(changeId)).toStrictEqual([
      ['pending', 'bob', 'The launch is today'],
      ['rejected', 'alice', null],
      ['pending', null, null],
      ['rejected', 'alice', 'Not before Monday'],
    ]);
  });

  it('outlives the retention of the event log', async () => {
    const { changeId } = await requestChange(rest, 'bob');
    await decide(rest, 'bob', changeId, 'cancel');
    const before = await life(changeId);
    await prune();
    const { rows } = await rest.pool.query('SELECT FROM flagcast.event_log WHERE pending_change_id = $1', [
      changeId,
    ]);
    expect(rows).toHaveLength(0);
    expect(await life(changeId)).toStrictEqual(before);
  });

  it('is what the tables of the host record where the log has nothing', async () => {
    const { changeId } = await requestChange(rest, 'bob');
    await decide(rest, 'alice', changeId, 'reject');
    await forgetSteps(changeId);
    expect(await life(changeId)).toStrictEqual([
      ['pending', 'bob', 'The launch is today'],
      ['rejected', 'alice', 'Not before Monday'],
    ]);
  });

  it('begins with the request where the log began later, and the request was reopened since', async () => {
    const { changeId } = await requestChange(rest, 'bob');
    await forgetSteps(changeId);
    await decide(rest, 'alice', changeId, 'reject');
    await rest.pool.query(`UPDATE pending_changes SET status = 'pending' WHERE id = $1`, [changeId]);
    expect(await life(changeId)).toStrictEqual([
      ['pending', 'bob', 'The launch is today'],
      ['rejected', 'alice', 'Not before Monday'],
      ['pending', null, null],
    ]);
  });

  it('outlives the move to another cluster, which starts a new event log', async () => {
    const { changeId } = await requestChange(rest, 'bob');
    await decide(rest, 'bob', changeId, 'cancel');
    const before = await life(changeId);
    await rest.pool.query(`UPDATE flagcast.log_state SET system_identifier = 'another'`);
    await rest.pool.query('SELECT flagcast.adopt_event_log()');
    const { rows } = await rest.pool.query('SELECT FROM flagcast.event_log');
    expect(rows).toHaveLength(0);
    expect(await life(changeId)).toStrictEqual(before);
  });

  it('is not shown to users who may not see the project', async () => {
    const { changeId } = await requestChange(rest, 'bob');
    for (const id of [changeId, 'x', '00000000-0000-0000-0000-000000000000']) {
      expect(await rest.ask('dave', 'GET', `/api/pending-changes/${id}`)).toMatchObject({
        status: 404,
        body: { code: 'unknown_change' },
      });
    }
  });
});

/** All pages of the list. */
async function pages(query: Record<string, string>): Promise<string[]> {
  const ids: string[] = [];
  for (let before: string | null = ''; before !== null;) {
    const page: Awaited<ReturnType<typeof list>> = await list({
      ...query,
      ...(before === '' ? {} : { before }),
    });
    ids.push(...page.ids);
    before = page.next;
  }
  return ids;
}

describe('the list of requests', () => {
  it('is filtered by state, feature, user, environment and time, and paged', async () => {
    const made = [];
    for (let index = 0; index < 5; index += 1) made.push(await requestChange(rest, 'bob'));
    const ids = made.map(({ changeId }) => changeId).toReversed();
    const [last = '', fourth = '', third = ''] = ids;
    await decide(rest, 'alice', last, 'approve');
    await decide(rest, 'erin', fourth, 'reject');
    await decide(rest, 'bob', third, 'cancel');
    const of = async (query: Record<string, string>): Promise<string[]> =>
      (await list(query)).ids.filter((id) => ids.includes(id));
    expect(await of({})).toStrictEqual(ids.slice(3));
    expect(await of({ state: 'all' })).toStrictEqual(ids);
    // By the time of the decision: the last one first.
    expect(await of({ state: 'decided' })).toStrictEqual([third, fourth, last]);
    expect(await of({ state: 'approved' })).toStrictEqual([last]);
    expect(await of({ state: 'rejected', username: 'erin' })).toStrictEqual([fourth]);
    expect(await of({ state: 'all', username: 'bob' })).toStrictEqual(ids);
    expect(await of({ state: 'all', feature_id: made[2]?.featureId ?? '' })).toStrictEqual([third]);
    expect(await of({ state: 'all', environment_id: rest.shop.environments.dev })).toStrictEqual([]);
    const { rows } = await rest.pool.query<{ at: Date }>(
      'SELECT created_at AS at FROM pending_changes WHERE id = $1',
      [third],
    );
    const at = new Date((rows[0]?.at.getTime() ?? 0) + 1).toISOString();
    const [since, until] = [await of({ state: 'all', since: at }), await of({ state: 'all', until: at })];
    expect([...since, ...until]).toStrictEqual(ids);
    expect(until[0]).toBe(third);

    for (const state of ['all', 'decided']) {
      expect(await pages({ state, limit: '2' })).toStrictEqual((await list({ state })).ids);
    }
  });

  it('has the user and the time of a cancellation, which only the log records', async () => {
    const { changeId } = await requestChange(rest, 'bob');
    expect((await rest.ask('root', 'POST', `/api/pending-changes/${changeId}/cancel`)).status).toBe(200);
    const { decided_by: by, decided_at: at, steps } = await detail(changeId);
    expect(by).toBe('root');
    expect(at).toBe((steps.at(-1) as Step & { at: string }).at);
    expect((await list({ state: 'cancelled', username: 'root' })).ids).toContain(changeId);
    expect((await list({ state: 'cancelled', username: 'alice' })).ids).not.toContain(changeId);
    await rest.pool.query(`UPDATE pending_changes SET status = 'pending' WHERE id = $1`, [changeId]);
    expect(await detail(changeId)).toMatchObject({ decided_by: null, decided_at: null });
    expect((await list({ state: 'open', username: 'root' })).ids).not.toContain(changeId);
  });

  it('is limited to any status of the host', async () => {
    const { changeId } = await requestChange(rest, 'bob');
    await rest.pool.query('ALTER TABLE pending_changes DROP CONSTRAINT pending_changes_status_check');
    await rest.pool.query(`UPDATE pending_changes SET status = 'failed' WHERE id = $1`, [changeId]);
    expect((await list({ state: 'failed' })).ids).toStrictEqual([changeId]);
    expect((await list({ state: 'applied' })).ids).toStrictEqual([]);
  });

  it('continues after a request whose time is not one of RFC 3339', async () => {
    const ids: string[] = [];
    for (const time of ['infinity', 'infinity', '12026-01-01', '2026-01-01', '0044-03-15 BC', '-infinity']) {
      const { changeId } = await requestChange(rest, 'erin');
      await rest.pool.query('UPDATE pending_changes SET created_at = $2 WHERE id = $1', [changeId, time]);
      ids.push(changeId);
    }
    const paged = await pages({ username: 'erin', limit: '1' });
    expect(paged).toStrictEqual((await list({ username: 'erin' })).ids);
    expect(paged).toEqual(expect.arrayContaining(ids));
    // As times of their decisions.
    await rest.pool.query(
      `UPDATE pending_changes SET status = 'rejected', rejected_by = 'alice', rejected_at = created_at,
      created_at = now() WHERE id = ANY ($1::uuid[])`,
      [ids],
    );
    expect(await pages({ state: 'rejected', username: 'erin', limit: '1' })).toStrictEqual(
      (await list({ state: 'rejected', username: 'erin' })).ids,
    );
  });

  it.each([
    ['state', ''],
    ['before', '2026-02-30T00:00:00.000000Z_00000000-0000-0000-0000-000000000000'],
    ['limit', '0'],
    ['since', 'yesterday'],
    ['feature_id', '7'],
  ])('refuses a wrong %s', async (name, value) => {
    const answer = await rest.ask('alice', 'GET', `/api/pending-changes?${name}=${value}`);
    expect(answer).toMatchObject({ status: 400, body: { code: 'invalid' } });
  });
});
