import { bearer, channelPath, clientFrame, handshakeHeaders, requestText } from './requests.js';

/** @import { Attack } from './attempt.js' */

const kind = 'slow';
const endless = Buffer.from('X-Never: '.padEnd(4_096, 'x'));

/** @type {readonly Attack[]} */
export const slow = [
  {
    kind,
    name: 'partial handshake, then silence',
    run: async (attempt) => {
      const { random, target } = attempt;
      const connection = attempt.open();
      const headers = handshakeHeaders(random, { Authorization: bearer(random, target) });
      const text = requestText('GET', channelPath(target), headers);
      connection.write(text.slice(0, random.below(text.length - 1)));
      await connection.flushed();
      attempt.hold(connection);
    },
  },
  {
    kind,
    name: 'endless headers, byte by byte',
    run: async (attempt) => {
      const { random, target } = attempt;
      const connection = attempt.open();
      const [line = ''] = requestText('GET', channelPath(target), handshakeHeaders(random)).split('\r\n\r\n');
      connection.write(`${line}\r\n`);
      await connection.flushed();
      attempt.hold(connection, endless);
    },
  },
  {
    kind,
    name: 'partial handshake, then close',
    run: async (attempt) => {
      const { random, target } = attempt;
      const connection = attempt.open();
      const headers = handshakeHeaders(random, { Authorization: bearer(random, target) });
      const text = requestText('GET', channelPath(target), headers);
      connection.write(text.slice(0, 1 + random.below(text.length)));
      await connection.flushed();
      connection.drop(random.oneIn(2));
    },
  },
  {
    kind,
    name: 'frame continued byte by byte',
    run: async (attempt) => {
      const connection = await attempt.openEither();
      if (connection === null) return;
      const frame = clientFrame({ payload: Buffer.alloc(4_000, ' ') });
      connection.write(frame.subarray(0, 1 + attempt.random.below(20)));
      await connection.flushed();
      attempt.hold(connection, Buffer.alloc(3_000, 0x20));
    },
  },
  {
    kind,
    name: 'pings of a client that does not read',
    run: async (attempt) => {
      const connection = await attempt.openEither();
      if (connection === null) return;
      connection.socket.pause();
      const one = clientFrame({ opcode: 9, payload: Buffer.alloc(125) });
      connection.write(Buffer.concat(Array.from({ length: 1_500 }, () => one)));
      attempt.hold(connection);
    },
  },
  {
    kind,
    name: 'request without its body',
    run: async (attempt) => {
      const { random, target } = attempt;
      const connection = attempt.open();
      const headers = /** @type {const} */ ([
        ['Host', 'x'],
        ['Authorization', bearer(random, target)],
        ['Content-Type', 'application/json'],
        ['Content-Length', '60000'],
      ]);
      connection.write(requestText('PATCH', `/api/features/${target.featureId}`, headers, '{"env":'));
      await connection.flushed();
      attempt.hold(connection, Buffer.alloc(4_096, ' '));
    },
  },
  {
    kind,
    name: 'connection without data',
    run: async (attempt) => {
      const connection = attempt.open();
      await new Promise((resolve) => {
        connection.socket.once('connect', () => resolve(null));
        connection.socket.once('close', () => resolve(null));
      });
      attempt.hold(connection);
    },
  },
];
