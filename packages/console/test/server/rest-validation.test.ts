import { once } from 'node:events';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { connect } from 'node:net';
import { describe, expect, it } from 'vitest';
import { useRestFixture } from '../../../server/test/rest-fixture.js';
import { createBody, updateBody } from '../../server/schemas.js';
import { ApiError, describeFields } from '../../src/api/api.js';
import { en } from '../../src/i18n/en.js';
import { ru } from '../../src/i18n/ru.js';

const rest = await useRestFixture();
/** Nothing in it is guarded. */
const { projectId } = rest.shop;

/** As the server words it when it creates a feature. */
const keyTaken = 'is taken by another feature of this project';

describe('invalid input', () => {
  const uuid = '11111111-1111-4111-8111-111111111111';
  const long = (length: number): string => 'x'.repeat(length);
  const cases: [string, object | string, Record<string, string>][] = [
    ['PATCH', {}, { env: 'is missing', version: 'is missing' }],
    ['PATCH', { env: 'dev', version: '1' }, { body: expect.stringMatching(/^changes nothing/) as string }],
    ['PATCH', { env: 'dev', version: '1', name: '' }, { name: 'must not be empty' }],
    ['PATCH', { env: 'dev', version: '1', name: ' \t' }, { name: 'must not be empty' }],
    ['PATCH', { env: 'dev', version: '1', name: long(51) }, { name: 'may have at most 50 characters' }],
    ['PATCH', { env: 'dev', version: '1', name: 7 }, { name: 'must be a text' }],
    ['PATCH', { env: 'dev', version: '1', name: null }, { name: 'must be a text' }],
    [
      'PATCH',
      { env: 'dev', version: '1', name: 'a\0b' },
      { name: 'holds a character that cannot be stored' },
    ],
    [
      'PATCH',
      '{"env":"dev","version":"1","name":"\\ud800"}',
      { name: 'holds a character that cannot be stored' },
    ],
    [
      'PATCH',
      { env: 'dev', version: '1', description: long(301) },
      { description: 'may have at most 300 characters' },
    ],
    [
      'PATCH',
      { env: 'dev', version: '1', default_value: long(129) },
      { default_value: 'may have at most 128 characters' },
    ],
    ['PATCH', { env: 'dev', version: '1', enabled: 'yes' }, { enabled: 'must be true or false' }],
    [
      'PATCH',
      { env: 'dev', version: '1', enabled: true, reason: long(501) },
      { reason: 'may have at most 500 characters' },
    ],
    [
      'PATCH',
      { env: 'dev', version: '1', enable: true, name: '' },
      { enable: 'is not known here', name: 'must not be empty' },
    ],
    ['DELETE', { env: 'dev' }, { version: 'is missing' }],
    ['PATCH', '[]', { body: expect.any(String) as string }],
    ['POST', { key: 'a', name: 'A' }, { project_id: 'is missing' }],
    ['POST', { project_id: '7', key: 'a', name: 'A' }, { project_id: 'must be a uuid' }],
    ['POST', { project_id: uuid, name: 'A' }, { key: 'is missing' }],
    [
      'POST',
      { project_id: uuid, key: 'a b', name: 'A' },
      { key: expect.stringMatching(/^must begin with/) as string },
    ],
    ['POST', { project_id: uuid, key: long(51), name: 'A' }, { key: 'may have at most 50 characters' }],
    [
      'POST',
      { project_id: uuid, key: 'a', name: 'A', kind: 'odd' },
      { kind: 'must be simple or multivariant' },
    ],
    ['POST', { project_id: uuid, key: 'a', name: 'A', enabled: true }, { enabled: 'is not known here' }],
  ];

  it.each(cases)('%s %j', async (method, body, fields) => {
    const path = method === 'POST' ? '/api/features' : `/api/features/${uuid}`;
    const answer = await rest.ask('alice', method, path, body);
    expect(answer).toMatchObject({ status: 400, body: { code: 'invalid' } });
    expect(answer.body.fields).toStrictEqual(fields);
    for (const name of Object.keys(answer.body.fields ?? {})) expect(answer.body.message).toContain(name);
    expect(answer.body.message).not.toContain('\n');
  });

  it('of the query string is refused with the names of the parameters', async () => {
    const audit = `/api/audit?project_id=${projectId}&env=dev`;
    for (const [path, name] of [
      [`${audit}&limit=0`, 'limit'],
      [`${audit}&limit=201`, 'limit'],
      [`${audit}&limit=x`, 'limit'],
      [`${audit}&before=x`, 'before'],
      [`${audit}&before=2026-02-30T12:00:00.000000Z_0_1`, 'before'],
      [`${audit}&before=2026-02-03T12:00:00.000000Z_0_9223372036854775808`, 'before'],
      [`${audit}&before=2026-02-03T12:00:00.000000Z_1_7`, 'before'],
      [`${audit}&since=yesterday`, 'since'],
      [`${audit}&until=2026-02-30T12:00:00Z`, 'until'],
      [`${audit}&until=0000-01-01T12:00:00Z`, 'until'],
      [`${audit}&action=%00`, 'action'],
      [`${audit}&feature_id=1`, 'feature_id'],
      [`${audit}&username=%00`, 'username'],
      [`/api/features/${uuid}`, 'env'],
      ['/api/pending-changes?project_id=1', 'project_id'],
    ] as const) {
      const { status, body } = await rest.ask('alice', 'GET', path);
      expect({ path, status, names: Object.keys(body.fields ?? {}) }).toStrictEqual({
        path,
        status: 400,
        names: [name],
      });
    }
    for (const [path, code] of [
      ['/api/features?env=dev', 'missing_parameter'],
      [`/api/features?project_id=${projectId}`, 'missing_parameter'],
      [`${audit}&env=prod`, 'repeated_parameter'],
    ] as const) {
      expect(await rest.ask('alice', 'GET', path)).toMatchObject({ status: 400, body: { code } });
    }
  });

  it('that is not JSON, too large, or of another content type is refused', async () => {
    const { id } = await rest.addFeature();
    const path = `/api/features/${id}`;
    expect(await rest.ask('alice', 'PATCH', path, '{')).toMatchObject({
      status: 400,
      body: { code: 'malformed_body' },
    });
    const form = { 'Content-Type': 'application/x-www-form-urlencoded' };
    expect(await rest.ask('alice', 'PATCH', path, 'a=b', form)).toMatchObject({
      status: 415,
      body: { code: 'unsupported_media_type' },
    });
    const large = { env: 'dev', version: '1', name: 'x'.repeat(70_000) };
    expect(await rest.ask('alice', 'PATCH', path, large)).toMatchObject({
      status: 413,
      body: { code: 'body_too_large' },
    });
    expect(await rest.ask('alice', 'PATCH', path)).toMatchObject({
      status: 400,
      body: { code: 'invalid' },
    });
  });

  it.each([
    ['Content-Length: 50', '{"env":'],
    ['Transfer-Encoding: chunked', '5\r\n{"env'],
    ['Transfer-Encoding: chunked', '2\r\n{}x'],
  ])('a body (%s) whose client disconnects early is not an error of the server', async (framing, sent) => {
    const { server, users } = rest;
    const failures: unknown[] = [];
    server.flagcast.lifecycle.on('access:failed', (failure) => failures.push(failure));
    const socket = connect(Number(new URL(server.httpUrl).port), '127.0.0.1');
    const left = once(server.http, 'request').then(async (asked) => {
      const [request, response] = asked as [IncomingMessage, ServerResponse];
      await once(request, 'resume');
      socket.destroy();
      if (!response.closed) await once(response, 'close');
    });
    const token = `Authorization: Bearer ${users.alice.token}\r\nContent-Type: application/json`;
    socket.write(`PATCH /api/features/${uuid} HTTP/1.1\r\nHost: x\r\n${token}\r\n${framing}\r\n\r\n${sent}`);
    await left;
    await rest.ask('alice', 'GET', '/api/pending-changes');
    expect(failures).toStrictEqual([]);
  });

  it('ids that do not exist are unknown, in any format', async () => {
    const { id } = await rest.addFeature();
    const change = { env: 'dev', version: '1', enabled: true };
    for (const unknown of [uuid, '1', "'; DROP TABLE features; --", '%00', `${uuid}x`]) {
      const path = `/api/features/${encodeURIComponent(unknown)}`;
      for (const answer of [
        await rest.ask('root', 'GET', `${path}?env=dev`),
        await rest.ask('root', 'PATCH', path, change),
        await rest.ask('root', 'DELETE', path, { env: 'dev', version: '1' }),
      ]) {
        expect(answer).toMatchObject({ status: 404, body: { code: 'unknown_feature' } });
      }
    }
    const nowhere = { ...change, env: 'qa' };
    for (const answer of [
      await rest.ask('alice', 'PATCH', `/api/features/${id}`, nowhere),
      await rest.ask('alice', 'GET', `/api/features/${id}?env=qa`),
      await rest.ask('alice', 'DELETE', `/api/features/${id}`, { env: 'qa', version: '1' }),
    ]) {
      expect(answer).toMatchObject({ status: 404, body: { code: 'unknown_environment' } });
    }
    const feature = { project_id: uuid, key: 'a', name: 'A' };
    expect(await rest.ask('root', 'POST', '/api/features', feature)).toMatchObject({
      status: 404,
      body: { code: 'unknown_project' },
    });
  });

  it('is measured in characters as the columns count them', async () => {
    const { id } = await rest.addFeature();
    const change = { env: 'dev', version: await rest.version(id, 'dev'), name: '🏁'.repeat(50) };
    expect(await rest.ask('alice', 'PATCH', `/api/features/${id}`, change)).toMatchObject({
      status: 200,
      body: { feature: { name: change.name } },
    });
  });
});

it('every problem that the server reports for an input is described in the language of the page', () => {
  const values = [undefined, 7, '', ' ', '\0', '-', 'x'.repeat(2_000)];
  const inputs = new Set<PropertyKey>(['name', 'key', 'description', 'rollout_key', 'default_value']);
  const issues = values.flatMap((value) => {
    const fields = Object.fromEntries([...inputs].map((input) => [input, value]));
    return [createBody, updateBody].flatMap((body) => body.safeParse(fields).error?.issues ?? []);
  });
  const found = issues.filter(({ path: [field] }) => field !== undefined && inputs.has(field));
  const problems = new Set(found.map(({ message }) => message).concat(keyTaken));
  const keys = [...problems].map((problem) => problem.replace(/\d+/, '#'));
  expect([...new Set(keys)].toSorted()).toEqual(Object.keys(en.fieldProblems).toSorted());
  const describe = (problem: string, messages: typeof en): string | undefined =>
    describeFields(new ApiError(400, { code: 'invalid', fields: { name: problem } }), messages)['name'];
  for (const problem of problems) {
    expect(describe(problem, en)).toMatch(/^[A-Z].*\.$/);
    expect(describe(problem, ru)).toMatch(/^[А-Я].*\.$/);
  }
  expect(describe('may have at most 50 characters', en)).toBe('Use at most 50 characters.');
});
