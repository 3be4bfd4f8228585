import { hostileText, mutate } from '../hostile.js';
import { bearer, channelPath, handshakeHeaders, requestText, textFrame } from './requests.js';

/** @import { Attack, Attempt } from './attempt.js' */

const kind = 'handshake';

/**
 * A handshake of somebody with a good token, changed, and how it has to be answered.
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
      await attempt.refusedWith(connection, statuses);
    },
  };
}

/**
 * A handshake with a good token for another address.
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
      await attempt.refusedWith(connection, statuses);
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
  changedHandshake('another version', [400], ({ random }) => ({
    'Sec-WebSocket-Version': random.pick(['', '0', '7', '12', '14', '-13', '13, 8', '1e1', 'x']),
  })),
  changedHandshake('no version', [400], () => ({ 'Sec-WebSocket-Version': null })),
  changedHandshake('no key', [400], () => ({ 'Sec-WebSocket-Key': null })),
  changedHandshake('a wrong key', [400], ({ random }) => ({
    'Sec-WebSocket-Key': random.pick(['', 'x', '=', random.bytes(15).toString('base64'), 'a'.repeat(5_000)]),
  })),
  changedHandshake('two upgrades at once', [400], ({ random }) => ({
    Upgrade: random.pick(['h2c, websocket', 'websocket, h2c', 'websocket/13', 'TLS/1.0, websocket']),
    'HTTP2-Settings': 'AAMAAABkAAQAoAAAAAIAAAAA',
  })),
  changedHandshake('headers without end', [431], ({ random }) => ({
    [`X-${random.below(9)}`]: 'x'.repeat(16_384 + random.below(65_536)),
  })),
  changedHandshake('a broken list of subprotocols', [400], ({ random }) => ({
    'Sec-WebSocket-Protocol': random.pick(['a,,b', ',', ' ,a', 'a a', 'a,a', 'a\tb', 'flagcast.v1,,', '"']),
  })),
  changedHandshake('an origin of its own', [400, 403], ({ random }) => ({
    Origin: random.pick(['null', 'https://evil.example', 'http://127.0.0.1@evil', 'file://', '[', 'x']),
  })),
  changedHandshake('no host', [400], () => ({ Host: null })),
  changedHandshake('a header that node:http refuses', [400], ({ random }) => ({
    'X-Header': random.pick(['a\0b', 'a\rX-Injected: b', 'a\x01', 'a\nb', '\x7f']),
  })),
  changedHandshake('a token of its own making', [401], ({ random }) => ({
    Authorization: `Bearer ${mutate(random, [Buffer.from('eyJhbGciOiJIUzI1NiJ9.e30.AAAA')]).toString('base64url')}`,
  })),
  otherPath('ids that hold SQL, and worse', [400, 404], (attempt) => {
    const { projectId } = attempt.target;
    const value = hostileValue(attempt);
    return attempt.random.pick([
      `/api/ws?project_id=${value}&env=prod`,
      `/api/ws?project_id=${projectId}&env=${value}x`,
      `/api/ws?project_id=${projectId}&env_id=${value}`,
    ]);
  }),
  otherPath(
    'an overlong query',
    [404],
    ({ random, target }) =>
      `/api/ws?project_id=${target.projectId}&env=${random.pick(['x', '%41', '%F0%9F%92%A5']).repeat(1_000)}`,
  ),
  otherPath('a query that no header has room for', [431], () => `/api/ws?env=${'x'.repeat(20_000)}`),
  otherPath('a path beside the path', [400, 404], ({ random }) =>
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
    name: 'v1: a token of its own making',
    run: async (attempt) => {
      const { random, target } = attempt;
      const connection = attempt.open();
      const token = random.bytes(1 + random.below(40)).toString('base64url');
      const headers = handshakeHeaders(random, { 'Sec-WebSocket-Protocol': `flagcast.v1, bearer.${token}` });
      connection.write(requestText('GET', channelPath(target), headers));
      // What it sends before anybody has looked at its token is not read.
      for (let count = random.below(20); count > 0; count -= 1)
        connection.write(textFrame('{"type":"ping"}'));
      await attempt.refusedWith(connection, [101]);
      if (connection.answer.status === 101) await attempt.closedWith(connection, [4501]);
      if (random.once(4)) attempt.hold(connection);
    },
  },
  {
    kind,
    name: 'another method',
    run: async (attempt) => {
      const { random, target } = attempt;
      const connection = attempt.open();
      const method = random.pick(['POST', 'PUT', 'HEAD', 'OPTIONS', 'DELETE', 'PROPFIND']);
      const headers = handshakeHeaders(random, { Authorization: bearer(random, target) });
      connection.write(requestText(method, channelPath(target), headers));
      await attempt.refusedWith(connection, [405]);
    },
  },
  {
    kind,
    name: 'the same handshake twice',
    run: async (attempt) => {
      const { random, target } = attempt;
      const connection = attempt.open();
      const headers = handshakeHeaders(random, { Authorization: bearer(random, target) });
      const text = requestText('GET', channelPath(target), headers);
      connection.write(text + text);
      // The second one is read as frames: a G is a continuation of nothing.
      await attempt.refusedWith(connection, [101]);
      if (connection.answer.status === 101) await attempt.closedWith(connection, [1002]);
    },
  },
  {
    kind,
    name: 'requests before and behind it',
    run: async (attempt) => {
      const { random, target } = attempt;
      const connection = attempt.open();
      const health = requestText('GET', '/healthz', [['Host', 'x']]);
      const count = 1 + random.below(20);
      const headers = handshakeHeaders(random, { Authorization: bearer(random, target) });
      connection.write(health.repeat(count) + requestText('GET', channelPath(target), headers));
      await attempt.owed(
        connection,
        ({ statuses }) => statuses.length > count || statuses.includes(503) || statuses.includes(429),
        `${count + 1} answers`,
      );
    },
  },
  {
    kind,
    name: 'bytes that are no HTTP',
    run: async (attempt) => {
      const { random } = attempt;
      const connection = attempt.open();
      const beginnings = [
        '16030100c801000100',
        '505249202a20485454502f322e300d0a0d0a534d0d0a0d0a',
        '00',
        '0a0d',
      ];
      connection.write(Buffer.from(random.pick(beginnings), 'hex'));
      connection.write(random.bytes(1 + random.below(2_000)));
      await attempt.seen(connection);
    },
  },
  {
    kind,
    name: 'a handshake with bytes changed',
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
      await attempt.seen(connection);
    },
  },
];
