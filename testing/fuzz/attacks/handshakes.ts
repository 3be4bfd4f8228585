import type { SeededRandom } from '../../testkit/random.ts';
import { drawn, hostileText, mutated } from '../hostile-input.ts';
import type { Attack, Attempt } from './attempt.ts';
import { clientFrame } from '../../testkit/frames.ts';
import { type Handshake, requestText } from './requests.ts';

function attack(name: string, run: Attack['run']): Attack {
  return { name: `handshake: ${name}`, run };
}

/** A changed handshake with a valid token, and the statuses that the server may answer. */
function changed(name: string, statuses: readonly number[], change: (attempt: Attempt) => Handshake): Attack {
  return attack(name, async (attempt) => {
    await attempt.expectStatus(attempt.open(attempt.handshake(change(attempt))), statuses);
  });
}

/** One of several values of a header. */
function header(
  field: string,
  name: string,
  statuses: readonly number[],
  values: readonly (string | null)[],
): Attack {
  return changed(name, statuses, ({ random }) => ({ headers: { [field]: random.pick(values) } }));
}

/** For a part of a URL. */
export function hostileValue(random: SeededRandom): string {
  const end = random.pick(['', '%00', '%', '%zz', '%c0%ae', '%ed%a0%80']);
  return encodeURIComponent(drawn(random, hostileText)) + end;
}

const foreign = ['null', 'https://evil.example', 'http://127.0.0.1@evil', 'file://', '[', 'x'];
const controls = ['a\0b', 'a\rX-Injected: b', 'a\x01', 'a\nb', '\x7f'];
const protocols = ['a,,b', ',', ' ,a', 'a a', 'a,a', 'a\tb', 'flagcast.v1,,', '"'];
const upgrades = ['h2c, websocket', 'websocket, h2c', 'websocket/13', 'TLS/1.0, websocket'];
const versions = ['', '0', '7', '12', '14', '-13', '13, 8', '1e1', 'x'];
/** Beginnings of TLS and HTTP/2, and others. */
const otherProtocols = [
  '16030100c801000100',
  '505249202a20485454502f322e300d0a0d0a534d0d0a0d0a',
  '00',
  '0a0d',
];

export const handshakes: readonly Attack[] = [
  header('Sec-WebSocket-Version', 'wrong version', [400], versions),
  header('Sec-WebSocket-Version', 'missing version', [400], [null]),
  header('Sec-WebSocket-Key', 'missing key', [400], [null]),
  header(
    'Sec-WebSocket-Key',
    'invalid key',
    [400],
    ['', 'x', '=', 'AAAAAAAAAAAAAAAAAAAA', 'a'.repeat(5_000)],
  ),
  header('Upgrade', 'several upgrades', [400], upgrades),
  header('Sec-WebSocket-Protocol', 'malformed subprotocols', [400], protocols),
  header('Origin', 'foreign origin', [400, 403], foreign),
  header('Host', 'missing host', [400], [null]),
  header('X-Header', 'header with control characters', [400], controls),
  changed('oversized header', [431], ({ random }) => ({
    headers: { [`X-${random.below(9)}`]: 'x'.repeat(16_384 + random.below(65_536)) },
  })),
  changed('invented token', [401], ({ random }) => {
    const token = drawn(random, mutated([Buffer.from('eyJhbGciOiJIUzI1NiJ9.e30.AAAA')]));
    // Longer ones do not fit into a header.
    return { headers: { Authorization: `Bearer ${token.subarray(0, 9_000).toString('base64url')}` } };
  }),
  changed('hostile ids', [400, 404], ({ random, target: { projectId } }) => {
    const value = hostileValue(random);
    const project = `project_id=${projectId}`;
    const queries = [
      `project_id=${value}&env=prod`,
      `${project}&env=${value}x`,
      `${project}&env_id=${value}`,
    ];
    return { path: `/api/ws?${random.pick(queries)}` };
  }),
  changed('long query string', [404], ({ random, target: { projectId } }) => ({
    path: `/api/ws?project_id=${projectId}&env=${random.pick(['x', '%41', '%F0%9F%92%A5']).repeat(1_000)}`,
  })),
  changed('oversized query string', [431], () => ({ path: `/api/ws?env=${'x'.repeat(20_000)}` })),
  changed('similar paths', [400, 404], ({ random }) => ({
    path: random.pick('//api/ws /api/ws/ /api/%77s /api/../api/ws /api/ws;a /%00 /%zz * /API/WS'.split(' ')),
  })),
  changed('wrong method', [405], ({ random }) => ({
    method: random.pick(['POST', 'PUT', 'HEAD', 'OPTIONS', 'DELETE', 'PROPFIND']),
  })),
  attack('v1: invented token', async (attempt) => {
    const { random } = attempt;
    const token = random.bytes(1 + random.below(40)).toString('base64url');
    const headers = { Authorization: null, 'Sec-WebSocket-Protocol': `flagcast.v1, bearer.${token}` };
    // The server does not read messages before it has verified the token.
    const messages = Array.from({ length: random.below(20) }, () => clientFrame(1, '{"type":"ping"}'));
    const connection = attempt.open(attempt.handshake({ headers }), ...messages);
    await attempt.expectStatus(connection, [101]);
    if (connection.answer.status === 101) await attempt.expectClose(connection, [4501]);
    if (random.oneIn(4)) attempt.hold(connection);
  }),
  attack('two handshakes on a connection', async (attempt) => {
    const connection = attempt.open(attempt.handshake().repeat(2));
    // The second handshake is parsed as frames: G is a continuation without a message.
    await attempt.expectStatus(connection, [101]);
    if (connection.answer.status === 101) await attempt.expectClose(connection, [1002]);
  }),
  attack('pipelined requests before a handshake', async (attempt) => {
    const count = 1 + attempt.random.below(20);
    const health = requestText('GET', '/healthz', ['Host: x']);
    const connection = attempt.open(health.repeat(count) + attempt.handshake());
    await attempt.expect(
      connection,
      ({ statuses }) => statuses.length > count || statuses.includes(503) || statuses.includes(429),
      `${count + 1} answers`,
    );
  }),
  attack('bytes other than HTTP', async (attempt) => {
    const { random } = attempt;
    const beginning = Buffer.from(random.pick(otherProtocols), 'hex');
    await attempt.waitBriefly(attempt.open(beginning, random.bytes(1 + random.below(2_000))));
  }),
  attack('mutated handshake', async (attempt) => {
    const headers = { 'Sec-WebSocket-Extensions': 'permessage-deflate; client_max_window_bits' };
    const valid = Buffer.from(attempt.handshake({ headers }), 'latin1');
    const bytes = drawn(attempt.random, mutated([valid]));
    const half = attempt.random.below(bytes.length + 1);
    const connection = attempt.open(bytes.subarray(0, half));
    await connection.flushed();
    connection.write(bytes.subarray(half));
    await attempt.waitBriefly(connection);
  }),
];
