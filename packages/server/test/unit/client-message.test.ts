import type { ClientMessage } from '@flagcast/protocol';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type CheckedMessage, parseClientMessage } from '../../src/connections/codecs/client-message.js';
import { anyCharacter } from '../../../../testing/testkit/any-character.ts';

const byKey = { projectId: 'p', environmentKey: 'prod' };
const byId = { projectId: 'p', environmentId: '7' };

describe("a client's message", () => {
  const good: [ClientMessage, CheckedMessage][] = [
    [{ type: 'ping' }, { type: 'ping' }],
    [
      { type: 'auth', token: 't' },
      { type: 'auth', token: 't' },
    ],
    [
      { type: 'subscribe', project_id: 'p', env: 'prod' },
      { type: 'subscribe', request: byKey, cursor: null },
    ],
    [
      { type: 'subscribe', project_id: 'p', env: 'prod', cursor: '' },
      { type: 'subscribe', request: byKey, cursor: '' },
    ],
    [
      { type: 'subscribe', project_id: 'p', env_id: 7, cursor: 'c' },
      { type: 'subscribe', request: byId, cursor: 'c' },
    ],
    [
      { type: 'unsubscribe', project_id: 'p', env_id: '7' },
      { type: 'unsubscribe', request: byId },
    ],
    [
      { type: 'announce', view: 'v', project_id: 'p', env_id: 7, feature_id: 'f', field: 'default_value' },
      {
        type: 'announce',
        view: 'v',
        place: {
          channel: { projectId: 'p', environmentId: '7' },
          subject: { kind: 'feature_id', id: 'f' },
          field: 'default_value',
        },
      },
    ],
    [
      { type: 'announce', view: 'v' },
      { type: 'announce', view: 'v', place: null },
    ],
    [
      { type: 'subscribe', feed: 'approvals', scope: 's', cursor: 'c' },
      {
        type: 'subscribe',
        request: { feed: 'approvals', scope: 's' },
        cursor: 'c',
      },
    ],
  ];
  it.each(good)('is parsed: %j', (message, checked) => {
    expect(parseClientMessage(JSON.stringify(message))).toStrictEqual(checked);
  });

  it.each([
    ['', 'the message is not JSON'],
    ['ping', 'the message is not JSON'],
    ['{"type":"ping"} ', null],
    ['{"type":"ping"}{"type":"ping"}', 'the message is not JSON'],
    ['\uFEFF{"type":"ping"}', 'the message is not JSON'],
    ["{type:'ping'}", 'the message is not JSON'],
    ['null', 'the message is not a JSON object'],
    ['"ping"', 'the message is not a JSON object'],
    ['1', 'the message is not a JSON object'],
    ['[{"type":"ping"}]', 'the message is not a JSON object'],
    ['{}', 'the type is not one of subscribe, unsubscribe, announce, auth, ping'],
    ['{"type":"hello"}', 'the type is not one of subscribe, unsubscribe, announce, auth, ping'],
    ['{"type":"Ping"}', 'the type is not one of subscribe, unsubscribe, announce, auth, ping'],
    ['{"type":["ping"]}', 'the type is not one of subscribe, unsubscribe, announce, auth, ping'],
    ['{"type":"__proto__"}', 'the type is not one of subscribe, unsubscribe, announce, auth, ping'],
    ['{"type":"toString"}', 'the type is not one of subscribe, unsubscribe, announce, auth, ping'],
    ['{"__proto__":{"type":"ping"}}', 'the type is not one of subscribe, unsubscribe, announce, auth, ping'],
    ['{"type":"ping","at":"1"}', 'ping has a key that it must not have'],
    ['{"type":"ping","__proto__":"x"}', 'ping has a key that it must not have'],
    ['{"type":"auth"}', 'auth needs a token'],
    ['{"type":"auth","token":1}', 'token is not a string'],
    ['{"type":"auth","token":"t","project_id":"p"}', 'auth has a key that it must not have'],
    ['{"type":"subscribe"}', 'project_id is missing'],
    ['{"type":"subscribe","project_id":"","env":"prod"}', 'project_id is missing'],
    ['{"type":"subscribe","project_id":1,"env":"prod"}', 'project_id is not a string'],
    ['{"type":"subscribe","project_id":"p"}', 'env is missing: the key of the environment'],
    ['{"type":"subscribe","project_id":"p","env":""}', 'env is missing: the key of the environment'],
    ['{"type":"subscribe","project_id":"p","env":7}', 'env is not a string'],
    ['{"type":"subscribe","project_id":"p","env":null}', 'env is not a string'],
    ['{"type":"subscribe","project_id":"p","env_id":7.5}', 'env_id is not a string'],
    ['{"type":"subscribe","project_id":"p","env_id":1e300}', 'env_id is not a string'],
    ['{"type":"subscribe","project_id":"p","env":"prod","env_id":7}', 'give env or env_id, not both'],
    ['{"type":"subscribe","project_id":"p","env":"prod","cursor":null}', 'cursor is not a string'],
    [
      '{"type":"unsubscribe","project_id":"p","env":"prod","cursor":"c"}',
      'unsubscribe has a key that it must not have',
    ],
    ['{"type":"subscribe","project_id":"p","environment_id":7}', 'subscribe has a key that it must not have'],
  ])('is refused: %s: %s', (text, problem) => {
    const parsed = parseClientMessage(text);
    if (problem === null) expect(parsed).toStrictEqual({ type: 'ping' });
    else expect(parsed).toStrictEqual({ problem });
  });

  it('G10: is parsed, or refused with a one-line problem that does not quote it', () => {
    const types = ['subscribe', 'unsubscribe', 'auth', 'ping'];
    const near = fc.record(
      {
        type: fc.oneof(fc.constantFrom(...types), fc.jsonValue()),
        project_id: fc.jsonValue(),
        env: fc.jsonValue(),
        env_id: fc.jsonValue(),
        cursor: fc.jsonValue(),
        token: fc.oneof(fc.constant('a secret'), fc.jsonValue()),
      },
      { requiredKeys: [] },
    );
    const anyText = fc.oneof(
      fc.string({ unit: anyCharacter }),
      fc.json(),
      near.map((message) => JSON.stringify(message)),
    );
    fc.assert(
      fc.property(anyText, (text) => {
        const parsed = parseClientMessage(text);
        if (!('problem' in parsed)) return types.includes(parsed.type);
        return /^[\w ,:]{5,80}$/.test(parsed.problem) && !parsed.problem.includes('secret');
      }),
      { numRuns: 300 },
    );
  });
});
