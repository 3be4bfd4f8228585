import type { Attack } from './attempt.ts';
import { clientFrame } from '../../testkit/frames.ts';
import { authorization, requestText } from './requests.ts';

function attack(name: string, run: Attack['run']): Attack {
  return { name: `slow: ${name}`, run };
}

export const slow: readonly Attack[] = [
  attack('partial handshake, then silence', async (attempt) => {
    const text = attempt.handshake();
    const connection = attempt.open(text.slice(0, attempt.random.below(text.length - 1)));
    await connection.flushed();
    attempt.hold(connection);
  }),
  attack('endless headers, byte by byte', async (attempt) => {
    const connection = attempt.open(attempt.handshake().slice(0, -'\r\n'.length));
    await connection.flushed();
    attempt.hold(connection, Buffer.from('X-Never: '.padEnd(4_096, 'x')));
  }),
  attack('partial handshake, then close', async (attempt) => {
    const text = attempt.handshake();
    const connection = attempt.open(text.slice(0, 1 + attempt.random.below(text.length)));
    await connection.flushed();
    connection.drop(attempt.random.oneIn(2));
  }),
  attack('frame continued byte by byte', async (attempt) => {
    const connection = await attempt.openSocket('either');
    if (connection === null) return;
    connection.write(clientFrame(1, ' '.repeat(4_000)).subarray(0, 1 + attempt.random.below(20)));
    await connection.flushed();
    attempt.hold(connection, Buffer.alloc(3_000, ' '));
  }),
  attack('pings of a client that does not read', async (attempt) => {
    const connection = await attempt.openSocket('either');
    if (connection === null) return;
    connection.socket.pause();
    const ping = clientFrame(9, Buffer.alloc(125));
    connection.write(Buffer.concat(Array.from({ length: 1_500 }, () => ping)));
    attempt.hold(connection);
  }),
  attack('request without its body', async (attempt) => {
    const { random, target } = attempt;
    const length = ['Content-Type: application/json', 'Content-Length: 60000'];
    const headers = ['Host: x', authorization(random, target), ...length];
    const connection = attempt.open(
      requestText('PATCH', `/api/features/${target.featureId}`, headers, '{"env":'),
    );
    await connection.flushed();
    attempt.hold(connection, Buffer.alloc(4_096, ' '));
  }),
  attack('connection without data', async (attempt) => {
    const connection = attempt.open();
    await new Promise((resolve) => {
      for (const event of ['connect', 'close']) connection.socket.once(event, resolve);
    });
    attempt.hold(connection);
  }),
];
