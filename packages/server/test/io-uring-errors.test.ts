import { describe, expect, it } from 'vitest';
import {
  BatchedSocketWriter,
  type BatchedConnection,
  openSocketWriter,
} from '../src/transport/batched-socket-writer.js';
import { SubmissionQueue, systemCalls } from '../src/transport/io-uring.js';

const isAvailable = openSocketWriter(true).batchedSocketWriter !== null;

/** The kernel's queues with an io_uring_enter of the test, which completes each send with `result`; null: none. */
function ringWith(result: number | null): SubmissionQueue {
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
    enter: (_number, _ring, submit) => {
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

interface RecordedPeer extends BatchedConnection {
  readonly written: string[];
  ended: boolean;
}

function createPeer(): RecordedPeer {
  const peer: RecordedPeer = {
    isGathered: false,
    descriptor: 1_000_000,
    written: [],
    ended: false,
    writeThrough: (bytes) => {
      peer.written.push(bytes.toString());
      return true;
    },
    wrote: () => undefined,
    terminate: () => {
      peer.ended = true;
    },
  };
  return peer;
}

function send(writes: BatchedSocketWriter, peers: readonly RecordedPeer[], text: string): boolean[] {
  const taken: boolean[] = [];
  writes.cork(() => {
    for (const peer of peers) taken.push(writes.take(peer, Buffer.from(text)));
  });
  return taken;
}

describe.runIf(isAvailable)('a send that io_uring has not done', () => {
  it.each([
    ['EINTR', -4],
    ['EAGAIN', -11],
    ['ENOMEM', -12],
    ['ENOBUFS', -105],
  ])('for %s goes through the stream of its socket, and the connection stays', (_name, result) => {
    const writes = new BatchedSocketWriter(ringWith(result), () => expect.unreachable());
    const peers = [createPeer(), createPeer()];
    expect(send(writes, peers, 'one')).toStrictEqual([true, true]);
    for (const { written, ended } of peers) {
      expect({ written, ended }).toStrictEqual({ written: ['one'], ended: false });
    }
  });

  it('for EPIPE ends the connection', () => {
    const peer = createPeer();
    send(new BatchedSocketWriter(ringWith(-32), () => expect.unreachable()), [peer], 'one');
    expect(peer).toMatchObject({ written: [], ended: true });
  });

  it('and of which no completion was seen ends its connection and the use of the queue, with one warning', () => {
    const ring = ringWith(null);
    let warnings = 0;
    const writes = new BatchedSocketWriter(ring, () => (warnings += 1));
    const [unknown, later] = [createPeer(), createPeer()];
    send(writes, [unknown], 'one');
    // How much of it was sent is not known.
    expect(unknown).toMatchObject({ written: [], ended: true });
    expect(send(writes, [later], 'two')).toStrictEqual([false]);
    expect({ isReliable: ring.isReliable(), warnings }).toStrictEqual({ isReliable: false, warnings: 1 });

    // Another server of the process has the same queue.
    const other = new BatchedSocketWriter(ring, () => (warnings += 1));
    expect(send(other, [later], 'three')).toStrictEqual([true]);
    expect(send(other, [later], 'four')).toStrictEqual([false]);
    expect(later).toMatchObject({ written: ['three'], ended: false });
    expect(warnings).toBe(2);
  });
});
