import { describe, expect, it } from 'vitest';
import type { BatchedConnection } from 'flagcast';
import { hasIoUring } from '../../../server/test/io-uring-here.js';
import { BatchedSocketWriter } from '../../src/batched-socket-writer.js';
import { SubmissionQueue, systemCalls } from '../../src/submission-queue.js';

/** The kernel's queues with an io_uring_enter of the test, which completes each send with `result`; null: no completion. */
function queueWith(result: number | null): SubmissionQueue {
  const calls = systemCalls();
  let parameters: Buffer = Buffer.alloc(0);
  let queues: Int32Array | null = null;
  return new SubmissionQueue({
    ...calls,
    errno: () => 9,
    setup: (number, entries, buffer) => {
      const descriptor = calls.setup(number, entries, buffer);
      parameters = buffer;
      return descriptor;
    },
    map: (bytes, flags, descriptor, offset) => {
      const mapped = calls.map(bytes, flags, descriptor, offset);
      queues ??= new Int32Array(mapped.memory);
      return mapped;
    },
    enter: (_number, _descriptor, submit) => {
      if (queues === null || submit === 0) return -1;
      if (result === null) return submit;
      const tailPlace = parameters.readUInt32LE(84) / 4;
      const tail = queues[tailPlace] ?? 0;
      const mask = parameters.readUInt32LE(4) - 1;
      for (let index = 0; index < submit; index += 1) {
        const place = parameters.readUInt32LE(100) / 4 + ((tail + index) & mask) * 4;
        queues[place] = index;
        queues[place + 2] = result;
      }
      queues[tailPlace] = tail + submit;
      return submit;
    },
  });
}

interface RecordedConnection extends BatchedConnection {
  readonly written: string[];
  ended: boolean;
}

function createConnection(): RecordedConnection {
  const connection: RecordedConnection = {
    isBatched: false,
    descriptor: 1_000_000,
    written: [],
    ended: false,
    writeToSocket: (bytes) => {
      connection.written.push(bytes.toString());
      return true;
    },
    onWritten: () => undefined,
    terminate: () => {
      connection.ended = true;
    },
  };
  return connection;
}

function send(
  writer: BatchedSocketWriter,
  connections: readonly RecordedConnection[],
  text: string,
): boolean[] {
  const results: boolean[] = [];
  writer.cork(() => {
    for (const connection of connections) results.push(writer.write(connection, Buffer.from(text)));
  });
  return results;
}

describe.runIf(hasIoUring)('a BatchedSocketWriter', () => {
  it.each([
    ['EINTR', -4],
    ['EAGAIN', -11],
    ['ENOMEM', -12],
    ['ENOBUFS', -105],
  ])('writes through the socket after %s and keeps the connection', (_name, result) => {
    const writer = new BatchedSocketWriter(queueWith(result), () => expect.unreachable(), 0);
    const connections = [createConnection(), createConnection()];
    expect(send(writer, connections, 'one')).toStrictEqual([true, true]);
    for (const { written, ended } of connections) {
      expect({ written, ended }).toStrictEqual({ written: ['one'], ended: false });
    }
  });

  it('ends the connection after EPIPE', () => {
    const connection = createConnection();
    send(new BatchedSocketWriter(queueWith(-32), () => expect.unreachable(), 0), [connection], 'one');
    expect(connection).toMatchObject({ written: [], ended: true });
  });

  it('ends the connection whose completion is missing, warns once, and does not use the queue again', () => {
    const queue = queueWith(null);
    let warnings = 0;
    const writer = new BatchedSocketWriter(queue, () => (warnings += 1), 0);
    const [unknown, later] = [createConnection(), createConnection()];
    send(writer, [unknown], 'one');
    // It is unknown how much of it was sent.
    expect(unknown).toMatchObject({ written: [], ended: true });
    expect(send(writer, [later], 'two')).toStrictEqual([true]);
    expect({ isReliable: queue.isReliable(), warnings }).toStrictEqual({ isReliable: false, warnings: 1 });

    // Another server of the process shares the queue.
    const other = new BatchedSocketWriter(queue, () => (warnings += 1), 0);
    send(other, [later], 'three');
    expect(warnings).toBe(2);
    send(other, [later], 'four');
    expect(later).toMatchObject({ written: ['two', 'three', 'four'], ended: false });
    expect(warnings).toBe(2);
  });
});
