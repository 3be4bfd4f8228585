import type { EventMessage } from '@flagcast/protocol';
import { describe, expect, it } from 'vitest';
import { type Answer, useRestFixture, type UserName } from '../../../server/test/rest-fixture.js';
import { V1Client } from '../../../server/test/v1-client.js';

const rest = await useRestFixture();

async function setGuard(who: UserName, environmentId: string, guarded: unknown): Promise<Answer> {
  return await rest.ask(who, 'PATCH', `/api/environments/${environmentId}`, { guarded });
}

interface Listed {
  readonly id: string;
  readonly guarded: boolean;
  readonly guarded_by: string | null;
  readonly guarded_at: string | null;
}

async function listed(environmentId: string): Promise<Listed | undefined> {
  const { body } = await rest.ask('carol', 'GET', '/api/projects');
  const projects = body['projects'] as { environments: Listed[] }[];
  return projects.flatMap(({ environments }) => environments).find(({ id }) => id === environmentId);
}

async function history(env: string): Promise<unknown[]> {
  const { shop } = rest;
  const path = `/api/audit?project_id=${shop.projectId}&env=${env}&entity=environment`;
  const { status, body } = await rest.ask('carol', 'GET', path);
  expect(status).toBe(200);
  return body['entries'] as unknown[];
}

function isGuardOf({ entity, action, actor }: EventMessage, who: UserName): boolean {
  return entity === 'environment' && action === 'updated' && actor === who;
}

describe('an owner of the project', () => {
  it('guards an environment and removes the guard: the list, the history and the live events show it', async () => {
    const { stage } = rest.shop.environments;
    const { projectId } = rest.shop;
    const client = await V1Client.connect(rest.server.wsUrl, {
      token: rest.users.carol.token,
      query: { project_id: projectId, env: 'stage' },
    });
    await client.control('caught_up');
    expect(await listed(stage)).toMatchObject({ guarded: false, guarded_by: null, guarded_at: null });

    expect(await setGuard('alice', stage, true)).toMatchObject({
      status: 200,
      body: { environment: { id: stage, key: 'stage', guarded: true } },
    });
    expect(await listed(stage)).toMatchObject({
      guarded: true,
      guarded_by: 'alice',
      guarded_at: expect.stringMatching(/^20.*Z$/) as string,
    });
    await client.message((message) => 'source' in message && isGuardOf(message, 'alice'));
    const { id } = await rest.addFeature();
    const write = async (): Promise<Answer> => {
      const version = await rest.version(id, 'stage');
      return await rest.ask('bob', 'PATCH', `/api/features/${id}`, {
        env: 'stage',
        version,
        enabled: true,
        reason: 'Now',
      });
    };
    const asked = await write();
    expect(asked.status).toBe(202);
    await rest.ask('bob', 'POST', `/api/pending-changes/${asked.body.pending_change?.id ?? ''}/cancel`);

    expect(await setGuard('root', stage, false)).toMatchObject({
      status: 200,
      body: { environment: { guarded: false } },
    });
    expect(await listed(stage)).toMatchObject({ guarded: false, guarded_by: null, guarded_at: null });
    await client.message((message) => 'source' in message && isGuardOf(message, 'root'));
    expect((await write()).status).toBe(200);
    expect(await history('stage')).toMatchObject([
      { action: 'updated', username: 'root', diff: [{ field: 'guarded', old: true, new: false }] },
      { action: 'updated', username: 'alice', diff: [{ field: 'guarded', old: false, new: true }] },
    ]);
    await client.close();
  });

  it('changes nothing, and writes no history, if the environment has that state already', async () => {
    const { dev } = rest.shop.environments;
    expect(await setGuard('alice', dev, false)).toMatchObject({ status: 200 });
    expect(await history('dev')).toStrictEqual([]);
  });
});

it.each(['erin', 'bob', 'carol', 'dave'] as const)(
  '%s, who is not an owner of the project, cannot change its guards',
  async (who) => {
    const { dev } = rest.shop.environments;
    expect(await setGuard(who, dev, true)).toMatchObject({ status: 403, body: { code: 'forbidden' } });
    expect(await listed(dev)).toMatchObject({ guarded: false });
  },
);

it.each(['999999999', '99999999999999999999', 'dev', '-1'])(
  'an unknown environment %s is refused with its name',
  async (environmentId) => {
    expect(await setGuard('alice', environmentId, true)).toMatchObject({
      status: 404,
      body: { code: 'unknown_environment' },
    });
  },
);

it('a body without guarded, or with anything else, is refused', async () => {
  const { dev } = rest.shop.environments;
  const path = `/api/environments/${dev}`;
  for (const body of [{}, { guarded: 'yes' }, { guarded: true, name: 'Neu' }]) {
    expect(await rest.ask('alice', 'PATCH', path, body)).toMatchObject({
      status: 400,
      body: { code: 'invalid' },
    });
  }
});
