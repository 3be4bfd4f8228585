import { deflateRawSync } from 'node:zlib';
import type { SeededRandom } from '../../testkit/random.ts';
import { drawn, hostileJson, hostileText, invalidUtf8, mutated } from '../hostile-input.ts';
import { corpora } from '../parsers/corpus.ts';
import type { Attack, Attempt, Dialect } from './attempt.ts';
import type { RawConnection } from '../../testkit/clients/raw-connection.ts';
import { clientFrame as frame } from '../../testkit/frames.ts';

const ping = '{"type":"ping"}';
const pingFrame = frame(1, ping);
/** Close, ping, pong. */
const controlCodes = [8, 9, 10];
const reservedCodes = [3, 4, 5, 6, 7, 11, 12, 13, 14, 15];
const invalidCloseCodes = [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 2_999, 5_000, 65_535];
const lengths = [70_000n, 2n ** 31n, 2n ** 32n, 2n ** 53n, 2n ** 63n, 2n ** 64n - 1n];
/** Longer than the longest message. */
const tooLong = { plain: 4_097, v1: 16_385 };
/** Kilobytes that decompress to 50 MB. */
const bomb = deflateRawSync(Buffer.alloc(50_000_000));
const extensions = [
  'permessage-deflate',
  'permessage-deflate; client_max_window_bits=15; server_no_context_takeover',
  'permessage-deflate; client_max_window_bits=99',
  'permessage-deflate; '.repeat(100),
];

/** An attack on an open connection. */
function on(
  dialect: Dialect,
  name: string,
  run: (connection: RawConnection, attempt: Attempt) => Promise<void>,
): Attack {
  return {
    name: `frames: ${dialect}: ${name}`,
    run: async (attempt) => {
      const connection = await attempt.openSocket(dialect);
      if (connection !== null) await run(connection, attempt);
    },
  };
}

/** Frames for which the server must close a connection with one of the codes. */
function closing(
  dialect: Dialect,
  name: string,
  codes: readonly number[],
  frames: (random: SeededRandom) => Buffer,
): Attack {
  return on(dialect, name, async (connection, attempt) => {
    // Valid messages before and after it make no difference.
    if (attempt.random.oneIn(2)) connection.write(pingFrame);
    connection.write(frames(attempt.random));
    connection.write(pingFrame);
    await attempt.expectClose(connection, codes);
  });
}

function repeated(count: number, item: () => Buffer): Buffer {
  return Buffer.concat(Array.from({ length: count }, item));
}

function closeFrame(code: number, reason: Buffer = Buffer.of()): Buffer {
  return frame(8, Buffer.concat([Buffer.from([code >> 8, code & 0xff]), reason]));
}

function tooLongInFragments(random: SeededRandom, size: number): Buffer {
  const payload = Buffer.alloc(1 + random.below(300), ' ');
  const rest = repeated(Math.ceil(size / payload.length), () => frame(0, payload, { final: false }));
  return Buffer.concat([frame(1, payload, { final: false }), rest]);
}

export const frames: readonly Attack[] = [
  closing('either', 'unmasked frame', [1002], () => frame(1, ping, { masked: false })),
  closing('either', 'reserved bits', [1002], (random) =>
    frame(random.pick([0, 1, 2, 9]), ping, { reserved: 1 + random.below(7) }),
  ),
  closing('either', 'reserved opcodes', [1002], (random) => frame(random.pick(reservedCodes), ping)),
  closing('either', 'fragmented control frame', [1002], (random) =>
    frame(random.pick(controlCodes), '', { final: false }),
  ),
  closing('either', 'control frame over 125 bytes', [1002], (random) =>
    frame(random.pick(controlCodes), Buffer.alloc(126 + random.below(1_000))),
  ),
  closing('either', 'continuation without a message', [1002], () => frame(0, ping)),
  closing('either', 'message within a fragmented message', [1002], () => frame(1, ping, { final: false })),
  closing('either', 'excessive length', [1009, 1002], (random) =>
    frame(random.pick([1, 2]), '', { length: random.pick(lengths) }),
  ),
  closing('either', 'text with invalid UTF-8', [1007], (random) =>
    frame(1, Buffer.concat([Buffer.from(ping), random.pick(invalidUtf8)])),
  ),
  closing('either', 'close with an invalid code', [1002], (random) =>
    closeFrame(random.pick(invalidCloseCodes)),
  ),
  closing('either', 'close frame of one byte', [1002], (random) => frame(8, random.bytes(1))),
  closing('either', 'close with invalid UTF-8', [1007], (random) =>
    closeFrame(1_000, random.pick(invalidUtf8)),
  ),
  closing('either', 'compressed frame without negotiation', [1002], (random) =>
    frame(1, random.pick([deflateRawSync(Buffer.alloc(100)), bomb]), { reserved: 4 }),
  ),
  closing('either', 'ping flood', [4505], (random) => {
    const payload = random.bytes(random.below(126));
    return repeated(2_000, () => frame(9, payload));
  }),
  closing('plain', 'message flood', [4505], (random) => {
    const text = random.pick([ping, '{}', drawn(random, hostileJson), drawn(random, hostileText)]);
    return repeated(1_000, () => frame(1, text));
  }),
  closing('plain', 'oversized fragmented message', [1009], (random) =>
    tooLongInFragments(random, tooLong.plain),
  ),
  closing('v1', 'oversized fragmented message', [1009], (random) => tooLongInFragments(random, tooLong.v1)),
  closing('v1', 'binary message', [4505], (random) => frame(2, random.bytes(random.below(100)))),
  closing('v1', 'too many messages', [4505], () => repeated(150, () => pingFrame)),
  closing('v1', 'invalid messages', [4505], (random) =>
    repeated(12, () => frame(1, random.oneIn(4) ? '['.repeat(16_384) : drawn(random, hostileJson))),
  ),
  closing('v1', 'invalid token on renewal', [4501], (random) =>
    frame(1, JSON.stringify({ type: 'auth', token: drawn(random, hostileText) })),
  ),
  {
    name: 'frames: decompression bomb after an offer of compression',
    run: async (attempt) => {
      const headers = { 'Sec-WebSocket-Extensions': attempt.random.pick(extensions) };
      const connection = attempt.open(attempt.handshake({ headers }));
      await attempt.expectStatus(connection, [101, 400]);
      if (connection.answer.status !== 101) return;
      connection.write(frame(1, bomb, { reserved: 4 }));
      await attempt.expectClose(connection, [1002, 1009]);
    },
  },
  on('plain', 'valid message in thousands of fragments, with pings between', async (connection, attempt) => {
    const pieces = [frame(1, ping.slice(0, 8), { final: false })];
    for (let count = 0; count < 3_000; count += 1) {
      pieces.push(frame(0, ' '.repeat(attempt.random.below(2)), { final: false }));
      if (count % 500 === 0) pieces.push(frame(9, ping));
    }
    connection.write(Buffer.concat([...pieces, frame(0, ping.slice(8))]));
    await attempt.expectText(connection, '"type":"pong"');
    await attempt.expect(connection, ({ pongs }) => pongs === 6, '6 pongs');
  }),
  on('plain', 'valid frame byte by byte', async (connection, attempt) => {
    for (const byte of pingFrame) {
      connection.write(Buffer.from([byte]));
      await connection.flushed();
    }
    await attempt.expectText(connection, '"type":"pong"');
  }),
  on('either', 'mutated frames', async (connection, attempt) => {
    const fragments = Buffer.concat([frame(1, ping, { final: false }), frame(0, ping)]);
    const valid = [pingFrame, frame(9, ping), fragments, closeFrame(1_000)];
    for (let count = 1 + attempt.random.below(5); count > 0; count -= 1) {
      connection.write(drawn(attempt.random, mutated(valid)));
      await connection.flushed();
    }
    await attempt.waitBriefly(connection);
  }),
  on('v1', 'unknown channels', async (connection, attempt) => {
    const { random, target } = attempt;
    const type = random.pick(['subscribe', 'unsubscribe']);
    const projectId = random.oneIn(2) ? target.projectId : drawn(random, hostileText) || 'x';
    const cursor = type === 'unsubscribe' || random.oneIn(2) ? {} : { cursor: drawn(random, hostileText) };
    const channel = { project_id: projectId, env: `${drawn(random, hostileText)}x` };
    connection.write(frame(1, JSON.stringify({ type, ...channel, ...cursor })));
    await attempt.expectText(connection, '"type":"error"');
  }),
  on('v1', 'invented cursors', async (connection, attempt) => {
    const { projectId, env } = attempt.target;
    const channel = { project_id: projectId, env };
    const cursor = drawn(attempt.random, mutated(corpora.cursorFields)).toString('base64url');
    connection.write(frame(1, JSON.stringify({ type: 'unsubscribe', ...channel })));
    connection.write(frame(1, JSON.stringify({ type: 'subscribe', ...channel, cursor })));
    await attempt.expect(
      connection,
      // A cursor over the maximum message size closes the connection.
      ({ texts, closeCode }) =>
        closeCode === 1009 || texts.some((text) => /"type":"(resync|error)"/.test(text)),
      'resync or an error',
    );
  }),
];
