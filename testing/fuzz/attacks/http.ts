import { drawn, hostileJson, hostileText, mutated } from '../hostile-input.ts';
import type { Attack, Attempt } from './attempt.ts';
import { hostileValue } from './handshakes.ts';
import { authorization, channelQuery, requestText } from './requests.ts';

const host = 'Host: 127.0.0.1';
const json = 'Content-Type: application/json';
const change = Buffer.from('{"env":"prod","version":"1","name":"A flag","enabled":true,"reason":"why"}');
const lengths = ['70000', '99999999999', '9007199254740993', '18446744073709551616'];
const invalidLengths = ['-1', '0x2', '2,2', '1e1', ' ', '+2'];
const chunk = `400\r\n${'x'.repeat(1_024)}\r\n`;
const types = ['application/json', 'application/json; charset=utf-16', 'text/xml', 'multipart/form-data'];
const chunks = ['zz\r\n', '-1\r\n', 'FFFFFFFFFFFFFFFFF\r\n', '2\r\n{}x', `1;${'a=b;'.repeat(5_000)}\r\n`];
const paths = '// /// /\\ /% /%zz /..%2f..%2fetc/passwd /a?b?c#d /: /@ /api/%2e%2e/'.split(' ');
const urls =
  'http://x/healthz http://[/healthz http://x:99999/ ftp://x/ http:/// x:y http://x/api/events?env=%zz';
const hosts = ['', '[', 'a b', 'x:y', '127.0.0.1:99999', '@', 'x/y', 'x?y', '\xff'];
const methods = ['TRACE', 'PROPFIND', 'M-SEARCH', 'get', 'G\0T', 'X'.repeat(5_000)];
const auditParameters = 'before limit entity action username feature_id since until'.split(' ');

/** A request, and the statuses that the server may answer. */
function request(name: string, statuses: readonly number[], text: (attempt: Attempt) => string): Attack {
  return {
    name: `http: ${name}`,
    run: async (attempt) => await attempt.expectStatus(attempt.open(text(attempt)), statuses),
  };
}

/** A GET request with a valid token. */
function get(name: string, statuses: readonly number[], path: (attempt: Attempt) => string): Attack {
  return request(name, statuses, (attempt) =>
    requestText('GET', path(attempt), [host, authorization(attempt.random, attempt.target)]),
  );
}

type Body = string | Buffer;

/** A request that changes the feature. `framing`: headers of the body's length. Default: the right one. */
function patch(
  name: string,
  statuses: readonly number[],
  content: Body | ((attempt: Attempt) => Body | { readonly body: Body; readonly framing: readonly string[] }),
): Attack {
  return request(name, statuses, (attempt) => {
    const { random, target } = attempt;
    const given = typeof content === 'function' ? content(attempt) : content;
    const { body, framing } = typeof given === 'string' || Buffer.isBuffer(given) ? withLength(given) : given;
    const headers = [host, authorization(random, target), ...framing];
    if (!framing.some((line) => line.startsWith('Content-Type'))) headers.push(json);
    return requestText(
      'PATCH',
      `/api/features/${target.featureId}`,
      headers,
      Buffer.from(body).toString('latin1'),
    );
  });
}

function withLength(body: Body, ...headers: readonly string[]): { body: Body; framing: readonly string[] } {
  return { body, framing: [...headers, `Content-Length: ${Buffer.byteLength(body)}`] };
}

const chunked = 'Transfer-Encoding: chunked';
const smuggled = '0\r\n\r\nGET /healthz HTTP/1.1\r\nHost: x\r\n\r\n';

export const requests: readonly Attack[] = [
  patch('deeply nested, truncated JSON', [400], ({ random }) =>
    random.pick(['[', '{"env":', '[{"a":']).repeat(9_000),
  ),
  patch('deeply nested JSON', [400], `${'['.repeat(30_000)}${']'.repeat(30_000)}`),
  patch('JSON with thousands of keys', [400], `{${'"k":1,'.repeat(5_000)}"k":1}`),
  patch('JSON with prototype keys', [400], ({ random }) => {
    const name = drawn(random, hostileJson);
    return `{"__proto__":{"env":"prod"},"constructor":{"prototype":{"version":"1"}},"name":${name}}`;
  }),
  patch('oversized body', [413], ({ random }) => `"${'x'.repeat(65_536 + random.below(65_536))}"`),
  patch('excessive Content-Length', [400, 413], ({ random }) => ({
    ...{ body: '{', framing: [`Content-Length: ${random.pick(lengths)}`] },
  })),
  patch('invalid Content-Length', [400], ({ random }) => ({
    ...{ body: '{}', framing: [`Content-Length: ${random.pick(invalidLengths)}`] },
  })),
  patch('two Content-Length headers', [400], () => withLength('{}', 'Content-Length: 3')),
  patch('Content-Length with chunked encoding', [400], ({ random }) => {
    const encoding = random.pick(['chunked', 'Chunked', 'identity, chunked']);
    return { body: smuggled, framing: ['Content-Length: 4', `Transfer-Encoding: ${encoding}`] };
  }),
  patch('invalid chunks', [400, 413], ({ random }) => ({ body: random.pick(chunks), framing: [chunked] })),
  patch('too many chunks', [413], () => ({ body: chunk.repeat(100), framing: [chunked] })),
  patch('Content-Length below the body', [400], () => ({
    body: '{"env":1}',
    framing: ['Content-Length: 3'],
  })),
  patch('body other than JSON', [400, 415], ({ random }) =>
    withLength(random.bytes(random.below(500)), `Content-Type: ${random.pick(types)}`),
  ),
  patch('compressed body', [400, 415], ({ random }) =>
    withLength(random.bytes(200), 'Content-Encoding: gzip'),
  ),
  patch('invalid change', [200, 202, 400, 403, 404, 409], ({ random }) =>
    random.oneIn(2) ? drawn(random, hostileJson) : drawn(random, mutated([change])).subarray(0, 60_000),
  ),
  request('sign-in of an unknown user', [400, 401, 404, 429], ({ random }) => {
    const user = JSON.stringify({ username: drawn(random, hostileText), password: 'x' });
    const body = Buffer.from(random.oneIn(2) ? drawn(random, hostileJson) : user);
    const headers = [host, json, `Content-Length: ${body.length}`];
    return requestText('POST', '/api/auth/login', headers, body.toString('latin1'));
  }),
  get('hostile ids', [400, 404], ({ random, target }) => {
    const value = `${hostileValue(random)}x`;
    const snapshot = `snapshot?project_id=${target.projectId}&env=${value}`;
    const project = random.pick(['snapshot', 'events', 'pending-changes']);
    const others = [`features/${value}?env=prod`, `${project}?project_id=${value}&env=prod`];
    return `/api/${random.pick([snapshot, ...others])}`;
  }),
  get('hostile audit queries', [200, 400], ({ random, target }) => {
    return `/api/audit?${channelQuery(target)}&${random.pick(auditParameters)}=${hostileValue(random)}`;
  }),
  get('invalid paths', [200, 400, 404], ({ random }) => {
    return random.pick(paths) + random.pick(['', 'api/events', 'healthz', '?', '%00']);
  }),
  get('absolute URL as the request target', [200, 400, 404], ({ random }) => random.pick(urls.split(' '))),
  request('invalid hosts', [200, 400], ({ random }) => {
    const headers = [`Host: ${random.pick(hosts)}`, 'Authorization: Bearer x'];
    return requestText('GET', random.pick(['/healthz', '/']), headers);
  }),
  request('unknown methods', [400, 404, 405, 501], ({ random }) => {
    return requestText(random.pick(methods), '/api/ws', [host]);
  }),
  {
    name: 'http: CONNECT',
    run: async (attempt) => {
      const connection = attempt.open(requestText('CONNECT', '127.0.0.1:22', [host]));
      await attempt.expect(
        connection,
        ({ status, end }) => end !== 'open' || status !== null,
        'an answer or a close',
      );
    },
  },
  {
    name: 'http: event stream from an invented cursor',
    run: async (attempt) => {
      const { random, target } = attempt;
      const text = `${drawn(random, hostileText)}x`.replace(/[^\t -~]/g, '?');
      const cursor = random.oneIn(2) ? random.bytes(30).toString('base64url') : text;
      const headers = [host, authorization(random, target), `Last-Event-ID: ${cursor}`];
      const path = `/api/events?${channelQuery(target)}`;
      const connection = attempt.open(requestText('GET', path, headers));
      await attempt.expectStatus(connection, [200]);
      connection.drop(random.oneIn(2));
    },
  },
];
