import { anyJson, hostileText, mutate } from '../hostile.js';
import { bearer, requestText } from './requests.js';

/** @import { Attack, Attempt } from './attempt.js' */

const kind = 'http';
const json = /** @type {const} */ (['Content-Type', 'application/json']);
const host = /** @type {const} */ (['Host', '127.0.0.1']);

/**
 * @param {string} name
 * @param {readonly number[]} statuses
 * @param {(attempt: Attempt) => string} text of the whole request
 * @returns {Attack}
 */
function request(name, statuses, text) {
  return {
    kind,
    name,
    run: async (attempt) => {
      const connection = attempt.open();
      connection.write(text(attempt));
      await attempt.refusedWith(connection, statuses);
    },
  };
}

/**
 * A change of the feature with this body.
 *
 * @param {Attempt} attempt
 * @param {string | Buffer} body
 * @param {readonly (readonly [name: string, value: string])[]} [framing] how long the body is said to be
 */
function patchText(
  { random, target },
  body,
  framing = [['Content-Length', String(Buffer.byteLength(body))]],
) {
  const headers = [host, json, ['Authorization', bearer(random, target)], ...framing];
  const text = typeof body === 'string' ? Buffer.from(body).toString('latin1') : body.toString('latin1');
  return requestText(
    'PATCH',
    `/api/features/${target.featureId}`,
    /** @type {[string, string][]} */ (headers),
    text,
  );
}

/**
 * A question with a good token.
 *
 * @param {Attempt} attempt
 * @param {string} path
 * @param {readonly (readonly [name: string, value: string])[]} [more]
 */
function getText({ random, target }, path, more = []) {
  return requestText('GET', path, [host, ['Authorization', bearer(random, target)], ...more]);
}

/** @param {Attempt} attempt */
function hostile({ random }) {
  return encodeURIComponent(hostileText(random)) + random.pick(['', '%00', '%', '%zz', '%c0%ae']);
}

/** @type {readonly Attack[]} */
export const requests = [
  request('JSON that is deep', [400], (attempt) =>
    patchText(attempt, attempt.random.pick(['[', '{"env":', '[{"a":']).repeat(9_000)),
  ),
  request('JSON that is deep, and whole', [400], (attempt) =>
    patchText(attempt, `${'['.repeat(30_000)}${']'.repeat(30_000)}`),
  ),
  request('JSON with thousands of keys', [400], (attempt) =>
    patchText(attempt, `{${Array.from({ length: 5_000 }, (_, index) => `"k${index}":1`).join(',')}}`),
  ),
  request('JSON with keys of prototypes', [400], (attempt) =>
    patchText(
      attempt,
      `{"__proto__":{"env":"prod"},"constructor":{"prototype":{"version":"1"}},"name":${anyJson(attempt.random)}}`,
    ),
  ),
  request('a body that is too large', [413], (attempt) =>
    patchText(attempt, `"${'x'.repeat(65_536 + attempt.random.below(65_536))}"`),
  ),
  request('a body that is said to be enormous', [400, 413], (attempt) =>
    patchText(attempt, '{', [
      [
        'Content-Length',
        attempt.random.pick(['70000', '99999999999', '9007199254740993', '18446744073709551616']),
      ],
    ]),
  ),
  request('a length that is none', [400], (attempt) =>
    patchText(attempt, '{}', [
      ['Content-Length', attempt.random.pick(['-1', '0x2', '2,2', '1e1', ' ', '+2'])],
    ]),
  ),
  request('two lengths', [400], (attempt) =>
    patchText(attempt, '{}', [
      ['Content-Length', '2'],
      ['Content-Length', '3'],
    ]),
  ),
  request('a length and pieces', [400], (attempt) =>
    patchText(attempt, '0\r\n\r\nGET /healthz HTTP/1.1\r\nHost: x\r\n\r\n', [
      ['Content-Length', '4'],
      ['Transfer-Encoding', attempt.random.pick(['chunked', 'Chunked', 'identity, chunked'])],
    ]),
  ),
  request('pieces that are none', [400, 413], (attempt) =>
    patchText(
      attempt,
      attempt.random.pick([
        'zz\r\n',
        '-1\r\n',
        'FFFFFFFFFFFFFFFFF\r\n',
        '2\r\n{}x',
        `1;${'a=b;'.repeat(5_000)}\r\n`,
      ]),
      [['Transfer-Encoding', 'chunked']],
    ),
  ),
  request('pieces that are too many', [413], (attempt) =>
    patchText(attempt, '400\r\n'.concat('x'.repeat(1_024), '\r\n').repeat(100), [
      ['Transfer-Encoding', 'chunked'],
    ]),
  ),
  request('a length that is too short', [400], (attempt) =>
    patchText(attempt, '{"env":1}', [['Content-Length', '3']]),
  ),
  request('no JSON', [400, 415], (attempt) =>
    patchText(attempt, attempt.random.bytes(attempt.random.below(500))).replace(
      'application/json',
      attempt.random.pick([
        'application/json',
        'application/json; charset=utf-16',
        'text/xml',
        'multipart/form-data',
      ]),
    ),
  ),
  request('a change that is none', [200, 202, 400, 403, 404, 409], (attempt) => {
    const good = [Buffer.from('{"env":"prod","version":"1","name":"A flag","enabled":true,"reason":"why"}')];
    return patchText(
      attempt,
      attempt.random.once(2) ? anyJson(attempt.random) : mutate(attempt.random, good),
    );
  }),
  request('ids that hold SQL, and worse', [400, 404], (attempt) => {
    const value = hostile(attempt);
    return getText(
      attempt,
      attempt.random.pick([
        `/api/features/${value}x?env=prod`,
        `/api/snapshot?project_id=${value}x&env=prod`,
        `/api/snapshot?project_id=${attempt.target.projectId}&env=${value}x`,
        `/api/events?project_id=${value}x&env=prod`,
        `/api/pending-changes?project_id=${value}x`,
      ]),
    );
  }),
  request('questions about the audit log', [200, 400], (attempt) => {
    const name = attempt.random.pick([
      'before',
      'limit',
      'entity',
      'action',
      'username',
      'feature_id',
      'since',
      'until',
    ]);
    const { projectId, environmentKey } = attempt.target;
    return getText(
      attempt,
      `/api/audit?project_id=${projectId}&env=${environmentKey}&${name}=${hostile(attempt)}`,
    );
  }),
  request('addresses that are none', [200, 400, 404], (attempt) =>
    getText(
      attempt,
      attempt.random.pick([
        '//',
        '///',
        '/\\',
        '/%',
        '/%zz',
        '/..%2f..%2fetc/passwd',
        '/a?b?c#d',
        '/:',
        '/@',
        '/api/%2e%2e/',
      ]) + attempt.random.pick(['', 'api/events', 'healthz', ' ', '?', '%00']).trimEnd(),
    ),
  ),
  request('a whole URL in place of a path', [200, 400, 404], (attempt) =>
    getText(
      attempt,
      attempt.random.pick([
        'http://x/healthz',
        'http://[/healthz',
        'http://x:99999/',
        'ftp://x/',
        'http:///',
        'x:y',
        'http://x/api/events?env=%zz',
      ]),
    ),
  ),
  request('hosts that are none', [200, 400], (attempt) =>
    requestText('GET', '/api/snapshot', [
      ['Host', attempt.random.pick(['', '[', 'a b', 'x:y', '127.0.0.1:99999', '@', 'x/y', 'x?y', '\xff'])],
      ['Authorization', 'Bearer x'],
    ]).replace(/^GET \/api\/snapshot/, () => `GET /${attempt.random.pick(['healthz', ''])}`),
  ),
  request('methods that nobody has', [400, 404, 405, 501], ({ random }) =>
    requestText(random.pick(['TRACE', 'PROPFIND', 'M-SEARCH', 'get', 'G\0T', 'X'.repeat(5_000)]), '/api/ws', [
      host,
    ]),
  ),
  {
    kind,
    name: 'a tunnel',
    run: async (attempt) => {
      const connection = attempt.open();
      connection.write(requestText('CONNECT', '127.0.0.1:22', [host]));
      await attempt.owed(connection, ({ status, end }) => end !== 'open' || status !== null, 'an end');
    },
  },
  request('a body in another coding', [400, 415], (attempt) =>
    patchText(attempt, attempt.random.bytes(200)).replace(/^Host/m, 'Content-Encoding: gzip\r\nHost'),
  ),
  request('signing in as somebody who is not there', [400, 401, 404, 429], ({ random }) => {
    const body = random.once(2)
      ? anyJson(random)
      : JSON.stringify({ username: hostileText(random), password: 'x' });
    const length = String(Buffer.byteLength(body));
    return requestText(
      'POST',
      '/api/auth/login',
      [host, json, ['Content-Length', length]],
      Buffer.from(body).toString('latin1'),
    );
  }),
  {
    kind,
    name: 'a stream of events, from a place of its own making',
    run: async (attempt) => {
      const { random, target } = attempt;
      const connection = attempt.open();
      const cursor = random.once(2) ? random.bytes(30).toString('base64url') : `${hostileText(random)}x`;
      const place = cursor.replace(/[^\t -~]/g, '?');
      connection.write(
        getText(attempt, `/api/events?project_id=${target.projectId}&env=${target.environmentKey}`, [
          ['Last-Event-ID', place],
        ]),
      );
      await attempt.refusedWith(connection, [200]);
      connection.drop(random.once(2));
    },
  },
];
