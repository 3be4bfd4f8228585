import { deflateRawSync } from 'node:zlib';
import { randomJson, hostileText, mutate } from '../hostile-input.js';
import { bearer, channelPath, clientFrame, handshakeHeaders, requestText, textFrame } from './requests.js';

/** @import { SeededRandom } from '../../testkit/random.ts' */
/** @import { Attack, Attempt } from './attempt.js' */
/** @import { RawConnection } from './raw-connection.js' */

const kind = 'frames';
const ping = Buffer.from('{"type":"ping"}');
const invalidUtf8 = ['c0af', 'eda080', 'f4908080', 'ff', 'e282'].map((hex) => Buffer.from(hex, 'hex'));
const longestMessage = { plain: 4_096, v1: 16_384 };

/**
 * An invalid frame on an open connection, and the close codes that the server may use.
 *
 * @param {string} name
 * @param {readonly number[]} codes
 * @param {(random: SeededRandom) => Buffer} bytes
 * @returns {Attack}
 */
function violation(name, codes, bytes) {
  return {
    kind,
    name,
    run: async (attempt) => {
      const connection = await attempt.openEither();
      if (connection === null) return;
      // Valid messages before and after it make no difference.
      if (attempt.random.oneIn(2)) connection.write(textFrame('{"type":"ping"}'));
      connection.write(bytes(attempt.random));
      connection.write(textFrame('{"type":"ping"}'));
      await attempt.expectClose(connection, codes);
    },
  };
}

/**
 * An attack on an open flagcast.v1 connection.
 *
 * @param {string} name
 * @param {(attempt: Attempt, connection: RawConnection) => Promise<void>} run
 * @returns {Attack}
 */
function asV1(name, run) {
  return {
    kind,
    name: `v1: ${name}`,
    run: async (attempt) => {
      const connection = await attempt.openV1();
      if (connection !== null) await run(attempt, connection);
    },
  };
}

/** @type {readonly Attack[]} */
export const frames = [
  violation('unmasked frame', [1002], () => clientFrame({ payload: ping, masked: false })),
  violation('reserved bits', [1002], (random) =>
    clientFrame({ payload: ping, reserved: 1 + random.below(7), opcode: random.pick([0, 1, 2, 9]) }),
  ),
  violation('reserved opcodes', [1002], (random) =>
    clientFrame({ payload: ping, opcode: random.pick([3, 4, 5, 6, 7, 11, 12, 13, 14, 15]) }),
  ),
  violation('fragmented control frame', [1002], (random) =>
    clientFrame({ opcode: random.pick([8, 9, 10]), final: false }),
  ),
  violation('control frame over 125 bytes', [1002], (random) =>
    clientFrame({ opcode: random.pick([8, 9, 10]), payload: Buffer.alloc(126 + random.below(1_000)) }),
  ),
  violation('continuation without a message', [1002], () => clientFrame({ opcode: 0, payload: ping })),
  violation('message within a fragmented message', [1002], () =>
    Buffer.concat([clientFrame({ payload: ping, final: false }), clientFrame({ payload: ping })]),
  ),
  violation('excessive length', [1009, 1002], (random) =>
    clientFrame({
      length: random.pick([70_000n, 2n ** 31n, 2n ** 32n, 2n ** 53n, 2n ** 63n, 2n ** 64n - 1n]),
      opcode: random.pick([1, 2]),
    }),
  ),
  violation('text with invalid UTF-8', [1007], (random) =>
    clientFrame({ payload: Buffer.concat([ping, random.pick(invalidUtf8)]) }),
  ),
  violation('close frame with an invalid code', [1002], (random) => {
    const payload = Buffer.alloc(2);
    payload.writeUInt16BE(random.pick([0, 1, 999, 1004, 1005, 1006, 1015, 1016, 2_999, 5_000, 65_535]));
    return clientFrame({ opcode: 8, payload });
  }),
  violation('close frame of one byte', [1002], (random) =>
    clientFrame({ opcode: 8, payload: random.bytes(1) }),
  ),
  violation('close frame with invalid UTF-8', [1007], (random) =>
    clientFrame({ opcode: 8, payload: Buffer.concat([Buffer.from([0x03, 0xe8]), random.pick(invalidUtf8)]) }),
  ),
  violation('compressed frame without negotiation', [1002], (random) =>
    clientFrame({ payload: deflateRawSync(Buffer.alloc(random.pick([100, 10_000_000]))), reserved: 4 }),
  ),
  {
    kind,
    name: 'decompression bomb after an offer of compression',
    run: async (attempt) => {
      const { random, target } = attempt;
      const connection = attempt.open();
      const headers = handshakeHeaders(random, {
        Authorization: bearer(random, target),
        'Sec-WebSocket-Extensions': random.pick([
          'permessage-deflate',
          'permessage-deflate; client_max_window_bits=15; server_no_context_takeover',
          'permessage-deflate; client_max_window_bits=99',
          'permessage-deflate; '.repeat(100),
        ]),
      });
      connection.write(requestText('GET', channelPath(target), headers));
      await attempt.expectStatus(connection, [101, 400]);
      if (connection.answer.status !== 101) return;
      connection.write(clientFrame({ payload: deflateRawSync(Buffer.alloc(50_000_000)), reserved: 4 }));
      await attempt.expectClose(connection, [1002, 1009]);
    },
  },
  {
    kind,
    name: 'oversized fragmented message',
    run: async (attempt) => {
      const v1 = attempt.random.oneIn(2);
      const connection = v1 ? await attempt.openV1() : await attempt.openPlain();
      if (connection === null) return;
      const size = 1 + attempt.random.below(300);
      const piece = Buffer.alloc(size, ' ');
      connection.write(clientFrame({ payload: piece, final: false }));
      const count = Math.ceil((v1 ? longestMessage.v1 : longestMessage.plain) / size) + 1;
      const rest = Array.from({ length: count }, () =>
        clientFrame({ opcode: 0, payload: piece, final: false }),
      );
      connection.write(Buffer.concat(rest));
      await attempt.expectClose(connection, [1009]);
    },
  },
  {
    kind,
    name: 'valid message in thousands of fragments, with pings between',
    run: async (attempt) => {
      const connection = await attempt.openPlain();
      if (connection === null) return;
      const pieces = [clientFrame({ payload: ping.subarray(0, 8), final: false })];
      for (let count = 0; count < 3_000; count += 1) {
        const payload = Buffer.alloc(attempt.random.below(2), ' ');
        pieces.push(clientFrame({ opcode: 0, payload, final: false }));
        if (count % 500 === 0) pieces.push(clientFrame({ opcode: 9, payload: ping }));
      }
      pieces.push(clientFrame({ opcode: 0, payload: ping.subarray(8) }));
      connection.write(Buffer.concat(pieces));
      await attempt.expectAnswer(
        connection,
        ({ texts, pongs }) => pongs === 6 && texts.some(isPong),
        'a pong',
      );
    },
  },
  {
    kind,
    name: 'valid frame byte by byte',
    run: async (attempt) => {
      const connection = await attempt.openPlain();
      if (connection === null) return;
      for (const byte of textFrame('{"type":"ping"}')) {
        connection.write(Buffer.from([byte]));
        await connection.flushed();
      }
      await attempt.expectAnswer(connection, ({ texts }) => texts.some(isPong), 'a pong');
    },
  },
  {
    kind,
    name: 'ping flood',
    run: async (attempt) => {
      const connection = await attempt.openEither();
      if (connection === null) return;
      const one = clientFrame({ opcode: 9, payload: attempt.random.bytes(attempt.random.below(126)) });
      connection.write(Buffer.concat(Array.from({ length: 2_000 }, () => one)));
      await attempt.expectClose(connection, [4505]);
    },
  },
  {
    kind,
    name: 'message flood',
    run: async (attempt) => {
      const connection = await attempt.openPlain();
      if (connection === null) return;
      const text = attempt.random.pick([
        '{"type":"ping"}',
        '{}',
        randomJson(attempt.random),
        hostileText(attempt.random),
      ]);
      connection.write(Buffer.concat(Array.from({ length: 1_000 }, () => textFrame(text))));
      await attempt.expectClose(connection, [4505]);
    },
  },
  {
    kind,
    name: 'mutated frames',
    run: async (attempt) => {
      const { random } = attempt;
      const connection = await attempt.openEither();
      if (connection === null) return;
      const valid = [
        textFrame('{"type":"ping"}'),
        clientFrame({ opcode: 9, payload: ping }),
        Buffer.concat([
          clientFrame({ payload: ping, final: false }),
          clientFrame({ opcode: 0, payload: ping }),
        ]),
        clientFrame({ opcode: 8, payload: Buffer.from([0x03, 0xe8]) }),
      ];
      for (let count = 1 + random.below(5); count > 0; count -= 1) {
        connection.write(mutate(random, valid));
        await connection.flushed();
      }
      await attempt.waitBriefly(connection);
    },
  },
  asV1('binary message', async (attempt, connection) => {
    connection.write(clientFrame({ opcode: 2, payload: attempt.random.bytes(attempt.random.below(100)) }));
    await attempt.expectClose(connection, [4505]);
  }),
  asV1('too many messages', async (attempt, connection) => {
    connection.write(Buffer.concat(Array.from({ length: 150 }, () => textFrame('{"type":"ping"}'))));
    await attempt.expectClose(connection, [4505]);
  }),
  asV1('invalid messages', async (attempt, connection) => {
    const { random } = attempt;
    const invalid = Array.from({ length: 12 }, () =>
      textFrame(random.oneIn(4) ? '['.repeat(16_384) : randomJson(random)),
    );
    connection.write(Buffer.concat(invalid));
    await attempt.expectClose(connection, [4505]);
  }),
  asV1('unknown channels', async (attempt, connection) => {
    const { random, target } = attempt;
    const message = {
      type: random.pick(['subscribe', 'unsubscribe']),
      project_id: random.oneIn(2) ? target.projectId : hostileText(random) || 'x',
      env: `${hostileText(random)}x`,
      ...(random.oneIn(2) ? {} : { cursor: hostileText(random) }),
    };
    if (message.type === 'unsubscribe') delete message.cursor;
    connection.write(textFrame(JSON.stringify(message)));
    await attempt.expectAnswer(
      connection,
      ({ texts }) => texts.some((text) => text.includes('"type":"error"')),
      'an error',
    );
  }),
  asV1('invented cursors', async (attempt, connection) => {
    const { random, target } = attempt;
    const { projectId, environmentKey } = target;
    connection.write(
      textFrame(JSON.stringify({ type: 'unsubscribe', project_id: projectId, env: environmentKey })),
    );
    const cursor = mutate(random, [Buffer.from('1|7400-5-1|100|5|2026-01-01T00:00:00.000000Z|1.2')]);
    const subscribe = { type: 'subscribe', project_id: projectId, env: environmentKey };
    connection.write(textFrame(JSON.stringify({ ...subscribe, cursor: cursor.toString('base64url') })));
    // A cursor over the maximum message size closes the connection.
    const isAnswer = (/** @type {string} */ text) => /"type":"(resync|error)"/.test(text);
    await attempt.expectAnswer(
      connection,
      ({ texts, closeCode }) => texts.some(isAnswer) || closeCode === 1009,
      'resync or an error',
    );
  }),
  asV1('invalid token on renewal', async (attempt, connection) => {
    const { random } = attempt;
    connection.write(textFrame(JSON.stringify({ type: 'auth', token: hostileText(random) })));
    await attempt.expectClose(connection, [4501]);
  }),
];

/** @param {string} text */
function isPong(text) {
  return text.includes('"type":"pong"');
}
