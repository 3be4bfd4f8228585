import { hostileText, mutate } from '../hostile-input.js';
import { bearer, channelPath, handshakeHeaders, requestText, textFrame } from './requests.js';

/** @import { Attack, Attempt } from './attempt.js' */

const kind = 'handshake';

/**
 * A handshake with a valid token and changed headers, and the statuses that the server may use.
 *
 * @param {string} name
 * @param {readonly number[]} statuses
 * @param {(attempt: Attempt) => Record<string, string | null>} changes
 * @returns {Attack}
 */
function changedHandshake(name, statuses, changes) {
  return {
    kind,
    name,
    run: async (attempt) => {
      const { random, target } = attempt;
      const connection = attempt.open();
      const headers = { Authorization: bearer(random, target), ...changes(attempt) };
      connection.write(requestText('GET', channelPath(target), handshakeHeaders(random, headers)));
      await attempt.expectStatus(connection, statuses);
    },
  };
}

/**
 * A handshake with a valid token for another path.
 *
 * @param {string} name
 * @param {readonly number[]} statuses
 * @param {(attempt: Attempt) => string} path
 * @returns {Attack}
 */
function otherPath(name, statuses, path) {
  return {
    kind,
    name,
    run: async (attempt) => {
      const { random, target } = attempt;
      const connection = attempt.open();
      const headers = handshakeHeaders(random, { Authorization: bearer(random, target) });
      connection.write(requestText('GET', path(attempt), headers));
      await attempt.expectStatus(connection, statuses);
    },
  };
}

/** @param {Attempt} attempt */
function hostileValue({ random }) {
  return (
    encodeURIComponent(hostileText(random)) + random.pick(['', '%00', '%', '%zz', '%c0%ae', '%ed%a0%80'])
  );
}

/** @type {readonly Attack[]} */
export const handshakes = [
  changedHandshake('wrong version', [400], ({ random }) => ({
    'Sec-WebSocket-Version': random.pick(['', '0', '7', '12', '14', '-13', '13, 8', '1e1', 'x']),
  })),
  changedHandshake('missing version', [400], () => ({ 'Sec-WebSocket-Version': null })),
  changedHandshake('missing key', [400], () => ({ 'Sec-WebSocket-Key': null })),
  changedHandshake('invalid key', [400], ({ random }) => ({
    'Sec-WebSocket-Key': random.pick(['', 'x', '=', random.bytes(15).toString('base64'), 'a'.repeat(5_000)]),
  })),
  changedHandshake('several upgrades', [400], ({ random }) => ({
    Upgrade: random.pick(['h2c, websocket', 'websocket, h2c', 'websocket/13', 'TLS/1.0, websocket']),
    'HTTP2-Settings': 'AAMAAABkAAQAoAAAAAIAAAAA',
  })),
  changedHandshake('oversized header', [431], ({ random }) => ({
    [`X-${random.below(9)}`]: 'x'.repeat(16_384 + random.below(65_536)),
  })),
  changedHandshake('malformed subprotocols', [400], ({ random }) => ({
    'Sec-WebSocket-Protocol': random.pick(['a,,b', ',', ' ,a', 'a a', 'a,a', 'a\tb', 'flagcast.v1,,', '"']),
  })),
  changedHandshake('foreign origin', [400, 403], ({ random }) => ({
    Origin: random.pick(['null', 'https://evil.example', 'http://127.0.0.1@evil', 'file://', '[', 'x']),
  })),
  changedHandshake('missing host', [400], () => ({ Host: null })),
  changedHandshake('header with control characters', [400], ({ random }) => ({
    'X-Header': random.pick(['a\0b', 'a\rX-Injected: b', 'a\x01', 'a\nb', '\x7f']),
  })),
  changedHandshake('invented token', [401], ({ random }) => ({
    Authorization: `Bearer ${mutate(random, [Buffer.from('eyJhbGciOiJIUzI1NiJ9.e30.AAAA')]).toString('base64url')}`,
  })),
  otherPath('hostile ids', [400, 404], (attempt) => {
    const { projectId } = attempt.target;
    const value = hostileValue(attempt);
    return attempt.random.pick([
      `/api/ws?project_id=${value}&env=prod`,
      `/api/ws?project_id=${projectId}&env=${value}x`,
      `/api/ws?project_id=${projectId}&env_id=${value}`,
    ]);
  }),
  otherPath(
    'long query string',
    [404],
    ({ random, target }) =>
      `/api/ws?project_id=${target.projectId}&env=${random.pick(['x', '%41', '%F0%9F%92%A5']).repeat(1_000)}`,
  ),
  otherPath('oversized query string', [431], () => `/api/ws?env=${'x'.repeat(20_000)}`),
  otherPath('similar paths', [400, 404], ({ random }) =>
    random.pick([
      '//api/ws',
      '/api/ws/',
      '/api/%77s',
      '/api/../api/ws',
      '/api/ws;a',
      '/%00',
      '/%zz',
      '*',
      '/API/WS',
    ]),
  ),
  {
    kind,
    name: 'v1: invented token',
    run: async (attempt) => {
      const { random, target } = attempt;
      const connection = attempt.open();
      const token = random.bytes(1 + random.below(40)).toString('base64url');
      const headers = handshakeHeaders(random, { 'Sec-WebSocket-Protocol': `flagcast.v1, bearer.${token}` });
      connection.write(requestText('GET', channelPath(target), headers));
      // The server does not read messages before it has verified the token.
      for (let count = random.below(20); count > 0; count -= 1)
        connection.write(textFrame('{"type":"ping"}'));
      await attempt.expectStatus(connection, [101]);
      if (connection.answer.status === 101) await attempt.expectClose(connection, [4501]);
      if (random.oneIn(4)) attempt.hold(connection);
    },
  },
  {
    kind,
    name: 'wrong method',
    run: async (attempt) => {
      const { random, target } = attempt;
      const connection = attempt.open();
      const method = random.pick(['POST', 'PUT', 'HEAD', 'OPTIONS', 'DELETE', 'PROPFIND']);
      const headers = handshakeHeaders(random, { Authorization: bearer(random, target) });
      connection.write(requestText(method, channelPath(target), headers));
      await attempt.expectStatus(connection, [405]);
    },
  },
  {
    kind,
    name: 'two handshakes on a connection',
    run: async (attempt) => {
      const { random, target } = attempt;
      const connection = attempt.open();
      const headers = handshakeHeaders(random, { Authorization: bearer(random, target) });
      const text = requestText('GET', channelPath(target), headers);
      connection.write(text + text);
      // The second handshake is parsed as frames: G is a continuation without a message.
      await attempt.expectStatus(connection, [101]);
      if (connection.answer.status === 101) await attempt.expectClose(connection, [1002]);
    },
  },
  {
    kind,
    name: 'pipelined requests before a handshake',
    run: async (attempt) => {
      const { random, target } = attempt;
      const connection = attempt.open();
      const health = requestText('GET', '/healthz', [['Host', 'x']]);
      const count = 1 + random.below(20);
      const headers = handshakeHeaders(random, { Authorization: bearer(random, target) });
      connection.write(health.repeat(count) + requestText('GET', channelPath(target), headers));
      await attempt.expectAnswer(
        connection,
        ({ statuses }) => statuses.length > count || statuses.includes(503) || statuses.includes(429),
        `${count + 1} answers`,
      );
    },
  },
  {
    kind,
    name: 'bytes other than HTTP',
    run: async (attempt) => {
      const { random } = attempt;
      const connection = attempt.open();
      const prefixes = [
        '16030100c801000100',
        '505249202a20485454502f322e300d0a0d0a534d0d0a0d0a',
        '00',
        '0a0d',
      ];
      connection.write(Buffer.from(random.pick(prefixes), 'hex'));
      connection.write(random.bytes(1 + random.below(2_000)));
      await attempt.waitBriefly(connection);
    },
  },
  {
    kind,
    name: 'mutated handshake',
    run: async (attempt) => {
      const { random, target } = attempt;
      const connection = attempt.open();
      const headers = handshakeHeaders(random, {
        Authorization: bearer(random, target),
        'Sec-WebSocket-Extensions': 'permessage-deflate; client_max_window_bits',
      });
      const text = requestText('GET', channelPath(target), headers);
      const bytes = mutate(random, [Buffer.from(text, 'latin1')]);
      const half = random.below(bytes.length + 1);
      connection.write(bytes.subarray(0, half));
      await connection.flushed();
      connection.write(bytes.subarray(half));
      await attempt.waitBriefly(connection);
    },
  },
];
