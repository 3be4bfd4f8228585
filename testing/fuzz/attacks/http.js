import { randomJson, hostileText, mutate } from '../hostile-input.js';
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
      await attempt.expectStatus(connection, statuses);
    },
  };
}

/**
 * Returns a request that changes the feature.
 *
 * @param {Attempt} attempt
 * @param {string | Buffer} body
 * @param {readonly (readonly [name: string, value: string])[]} [framing] headers of the body's length
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
 * Returns a GET request with a valid token.
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
  request('deeply nested, truncated JSON', [400], (attempt) =>
    patchText(attempt, attempt.random.pick(['[', '{"env":', '[{"a":']).repeat(9_000)),
  ),
  request('deeply nested JSON', [400], (attempt) =>
    patchText(attempt, `${'['.repeat(30_000)}${']'.repeat(30_000)}`),
  ),
  request('JSON with thousands of keys', [400], (attempt) =>
    patchText(attempt, `{${Array.from({ length: 5_000 }, (_, index) => `"k${index}":1`).join(',')}}`),
  ),
  request('JSON with prototype keys', [400], (attempt) =>
    patchText(
      attempt,
      `{"__proto__":{"env":"prod"},"constructor":{"prototype":{"version":"1"}},"name":${randomJson(attempt.random)}}`,
    ),
  ),
  request('oversized body', [413], (attempt) =>
    patchText(attempt, `"${'x'.repeat(65_536 + attempt.random.below(65_536))}"`),
  ),
  request('excessive Content-Length', [400, 413], (attempt) =>
    patchText(attempt, '{', [
      [
        'Content-Length',
        attempt.random.pick(['70000', '99999999999', '9007199254740993', '18446744073709551616']),
      ],
    ]),
  ),
  request('invalid Content-Length', [400], (attempt) =>
    patchText(attempt, '{}', [
      ['Content-Length', attempt.random.pick(['-1', '0x2', '2,2', '1e1', ' ', '+2'])],
    ]),
  ),
  request('two Content-Length headers', [400], (attempt) =>
    patchText(attempt, '{}', [
      ['Content-Length', '2'],
      ['Content-Length', '3'],
    ]),
  ),
  request('Content-Length with chunked encoding', [400], (attempt) =>
    patchText(attempt, '0\r\n\r\nGET /healthz HTTP/1.1\r\nHost: x\r\n\r\n', [
      ['Content-Length', '4'],
      ['Transfer-Encoding', attempt.random.pick(['chunked', 'Chunked', 'identity, chunked'])],
    ]),
  ),
  request('invalid chunks', [400, 413], (attempt) =>
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
  request('too many chunks', [413], (attempt) =>
    patchText(attempt, '400\r\n'.concat('x'.repeat(1_024), '\r\n').repeat(100), [
      ['Transfer-Encoding', 'chunked'],
    ]),
  ),
  request('Content-Length below the body', [400], (attempt) =>
    patchText(attempt, '{"env":1}', [['Content-Length', '3']]),
  ),
  request('body other than JSON', [400, 415], (attempt) =>
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
  request('invalid change', [200, 202, 400, 403, 404, 409], (attempt) => {
    const valid = [Buffer.from('{"env":"prod","version":"1","name":"A flag","enabled":true,"reason":"why"}')];
    return patchText(
      attempt,
      attempt.random.oneIn(2) ? randomJson(attempt.random) : mutate(attempt.random, valid),
    );
  }),
  request('hostile ids', [400, 404], (attempt) => {
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
  request('hostile audit queries', [200, 400], (attempt) => {
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
  request('invalid paths', [200, 400, 404], (attempt) =>
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
  request('absolute URL as the request target', [200, 400, 404], (attempt) =>
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
  request('invalid hosts', [200, 400], (attempt) =>
    requestText('GET', '/api/snapshot', [
      ['Host', attempt.random.pick(['', '[', 'a b', 'x:y', '127.0.0.1:99999', '@', 'x/y', 'x?y', '\xff'])],
      ['Authorization', 'Bearer x'],
    ]).replace(/^GET \/api\/snapshot/, () => `GET /${attempt.random.pick(['healthz', ''])}`),
  ),
  request('unknown methods', [400, 404, 405, 501], ({ random }) =>
    requestText(random.pick(['TRACE', 'PROPFIND', 'M-SEARCH', 'get', 'G\0T', 'X'.repeat(5_000)]), '/api/ws', [
      host,
    ]),
  ),
  {
    kind,
    name: 'CONNECT',
    run: async (attempt) => {
      const connection = attempt.open();
      connection.write(requestText('CONNECT', '127.0.0.1:22', [host]));
      await attempt.expectAnswer(
        connection,
        ({ status, end }) => end !== 'open' || status !== null,
        'an answer or a close',
      );
    },
  },
  request('compressed body', [400, 415], (attempt) =>
    patchText(attempt, attempt.random.bytes(200)).replace(/^Host/m, 'Content-Encoding: gzip\r\nHost'),
  ),
  request('sign-in of an unknown user', [400, 401, 404, 429], ({ random }) => {
    const body = random.oneIn(2)
      ? randomJson(random)
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
    name: 'event stream from an invented cursor',
    run: async (attempt) => {
      const { random, target } = attempt;
      const connection = attempt.open();
      const cursor = random.oneIn(2) ? random.bytes(30).toString('base64url') : `${hostileText(random)}x`;
      const headerValue = cursor.replace(/[^\t -~]/g, '?');
      connection.write(
        getText(attempt, `/api/events?project_id=${target.projectId}&env=${target.environmentKey}`, [
          ['Last-Event-ID', headerValue],
        ]),
      );
      await attempt.expectStatus(connection, [200]);
      connection.drop(random.oneIn(2));
    },
  },
];
