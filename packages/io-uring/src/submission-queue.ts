import { createRequire } from 'node:module';
import { endianness } from 'node:os';
import type Koffi from 'koffi';

/*
 * The kernel's interface, from linux/io_uring.h: the numbers of the system calls, which are the same on both supported
 * architectures, and the sizes and offsets of the mapped structures in bytes.
 */
const setupCall = 425;
const enterCall = 426;
const submissionsOffset = 0x1000_0000;
const parametersBytes = 120;
const submissionBytes = 64;
const completionBytes = 16;
/** IORING_OP_SEND. */
const sendOperation = 26;
/** IORING_FEAT_RW_CUR_POS, new in Linux 5.6 like IORING_OP_SEND. */
const featureOfLinux56 = 8;
/** IORING_ENTER_GETEVENTS. */
const enterGetEvents = 1;
/** MSG_DONTWAIT and MSG_NOSIGNAL: a send completes within the call, with an error if the socket's buffer is full. */
const sendFlags = 0x40 | 0x4000;
/** PROT_READ and PROT_WRITE; MAP_SHARED and MAP_POPULATE; MAP_PRIVATE and MAP_ANONYMOUS. */
const readWrite = 3;
const sharedPopulated = 0x8001;
const privateAnonymous = 0x22;
/** EINTR. */
const interrupted = 4;
const architectures: readonly string[] = ['x64', 'arm64'];

/** EINTR, EAGAIN, ENOMEM and ENOBUFS: nothing was sent, and the socket is not broken. */
const transientErrors: readonly number[] = [-4, -11, -12, -105];
/** EIO: the result of a send without a completion. */
const failed = -5;

/** The functions of the C library that the queue uses. */
export interface SystemCalls {
  readonly setup: (number: number, entries: number, parameters: Buffer) => number;
  readonly enter: (
    number: number,
    descriptor: number,
    submit: number,
    complete: number,
    flags: number,
    signals: number,
    size: number,
  ) => number;
  readonly errno: () => number;
  readonly map: (bytes: number, flags: number, descriptor: number, offset: number) => Mapped;
}

interface Mapped {
  readonly address: bigint;
  readonly memory: ArrayBuffer;
}

/** Where the heads, tails and entries of both queues are in their shared memory, as indexes of 32-bit numbers. */
interface QueueLayout {
  readonly submissionTail: number;
  readonly submissionOrder: number;
  readonly submissionMask: number;
  readonly completionHead: number;
  readonly completionTail: number;
  readonly completions: number;
  readonly completionMask: number;
}

/** The kernel reads the bytes of the sends here. They are copied because V8 may move a Buffer's memory. */
class StagingMemory {
  readonly #memory: Buffer;
  readonly #address: bigint;
  #used = 0;
  /** The Buffer that was added last. */
  #newest: Buffer | null = null;
  /** The halves of its address. */
  addressLow = 0;
  addressHigh = 0;

  constructor({ memory, address }: Mapped) {
    this.#memory = Buffer.from(memory);
    this.#address = address;
  }

  hasRoom(bytes: Buffer): boolean {
    return bytes === this.#newest || this.#used + bytes.length <= this.#memory.length;
  }

  /** Copies the bytes, unless they were added last. */
  add(bytes: Buffer): void {
    if (bytes === this.#newest) return;
    const address = this.#address + BigInt(this.#used);
    this.#newest = bytes;
    this.addressLow = Number(address & 0xffff_ffffn);
    this.addressHigh = Number(address >> 32n);
    bytes.copy(this.#memory, this.#used);
    this.#used += bytes.length;
  }

  clear(): void {
    this.#used = 0;
    this.#newest = null;
  }
}

/**
 * Sends to many sockets in one system call (io_uring, Linux 5.6 and later). Every send has completed or failed when
 * `submit` returns, so a descriptor cannot be reused by another connection in between.
 */
export class SubmissionQueue {
  /** The most sends of a submission. */
  static readonly capacity = 128;
  /** The most bytes of a submission. Consecutive sends of the same Buffer share its bytes. */
  static readonly maxBytes = 262_144;

  readonly #calls: SystemCalls;
  readonly #descriptor: number;
  /** Shared with the kernel: heads, tails and order of both queues, and the completions. */
  readonly #queues: Int32Array;
  readonly #submissions: Int32Array;
  readonly #layout: QueueLayout;
  readonly #staging: StagingMemory;
  readonly #results = new Int32Array(SubmissionQueue.capacity);
  #count = 0;
  #isReliable = true;

  /** Throws an Error with the reason if this machine does not allow io_uring. */
  constructor(calls: SystemCalls = systemCalls()) {
    this.#calls = calls;
    const parameters = Buffer.alloc(parametersBytes);
    this.#descriptor = this.#calls.setup(setupCall, SubmissionQueue.capacity, parameters);
    if (this.#descriptor < 0) {
      throw new Error(`the kernel refuses io_uring (errno ${this.#calls.errno()})`);
    }
    if ((parameters.readUInt32LE(20) & featureOfLinux56) === 0) {
      throw new Error('the kernel is older than Linux 5.6');
    }
    const [submissionEntries, completionEntries] = [parameters.readUInt32LE(0), parameters.readUInt32LE(4)];
    // sq_off begins at 40 and cq_off at 80: each the offsets of head, tail, mask, entries, flags, ...
    const submissionOrder = parameters.readUInt32LE(40 + 24);
    const completions = parameters.readUInt32LE(80 + 20);
    const queueBytes = Math.max(
      submissionOrder + submissionEntries * 4,
      completions + completionEntries * completionBytes,
    );
    const queues = this.#calls.map(queueBytes, sharedPopulated, this.#descriptor, 0);
    this.#queues = new Int32Array(queues.memory);
    this.#submissions = new Int32Array(
      this.#calls.map(
        submissionEntries * submissionBytes,
        sharedPopulated,
        this.#descriptor,
        submissionsOffset,
      ).memory,
    );
    this.#layout = {
      submissionTail: parameters.readUInt32LE(40 + 4) / 4,
      submissionOrder: submissionOrder / 4,
      submissionMask: submissionEntries - 1,
      completionHead: parameters.readUInt32LE(80) / 4,
      completionTail: parameters.readUInt32LE(80 + 4) / 4,
      completions: completions / 4,
      completionMask: completionEntries - 1,
    };
    this.#staging = new StagingMemory(this.#calls.map(SubmissionQueue.maxBytes, privateAnonymous, -1, 0));
    for (let index = 0; index < SubmissionQueue.capacity; index += 1) {
      const place = (index * submissionBytes) / 4;
      this.#submissions[place] = sendOperation;
      this.#submissions[place + 7] = sendFlags;
      this.#submissions[place + 8] = index;
    }
  }

  /** False after a completion was missing: it could come late and be mistaken for a later send's. Never use the queue again. */
  isReliable(): boolean {
    return this.#isReliable;
  }

  /** Whether `add` has room for these bytes. */
  hasRoom(bytes: Buffer): boolean {
    return this.#count < SubmissionQueue.capacity && this.#staging.hasRoom(bytes);
  }

  /** Adds a send. At most one for each socket, and only if there is room. */
  add(descriptor: number, bytes: Buffer): void {
    const staging = this.#staging;
    staging.add(bytes);
    const place = (this.#count * submissionBytes) / 4;
    const submissions = this.#submissions;
    submissions[place + 1] = descriptor;
    submissions[place + 4] = staging.addressLow;
    submissions[place + 5] = staging.addressHigh;
    submissions[place + 6] = bytes.length;
    this.#count += 1;
  }

  /**
   * Sends what was added. Returns, in the same order, how many bytes of each send the kernel accepted, or a negative
   * number if the socket is broken. The next call overwrites the returned array.
   */
  submit(): Int32Array {
    const count = this.#count;
    const queues = this.#queues;
    const results = this.#results;
    const { submissionTail, submissionOrder, submissionMask } = this.#layout;
    const tail = queues[submissionTail] ?? 0;
    for (let index = 0; index < count; index += 1) {
      queues[submissionOrder + ((tail + index) & submissionMask)] = index;
    }
    Atomics.store(queues, submissionTail, tail + count);
    const submitted = Math.max(0, this.#enter(count, count));
    // The kernel must not accept later what it did not accept now, for lack of memory.
    if (submitted < count) Atomics.store(queues, submissionTail, tail + submitted);
    results.fill(0, submitted, count);
    results.fill(failed, 0, submitted);
    let completed = this.#reap();
    while (completed < submitted) {
      // Should not happen, because sends with MSG_DONTWAIT complete within the call.
      if (this.#enter(0, 1) < 0 && this.#calls.errno() !== interrupted) {
        this.#isReliable = false;
        break;
      }
      completed += this.#reap();
    }
    this.#count = 0;
    this.#staging.clear();
    return results.subarray(0, count);
  }

  #enter(submit: number, complete: number): number {
    return this.#calls.enter(enterCall, this.#descriptor, submit, complete, enterGetEvents, 0, 0);
  }

  /** Reads the completions, and returns their number. */
  #reap(): number {
    const queues = this.#queues;
    const { completionHead, completionTail, completions, completionMask } = this.#layout;
    const head = queues[completionHead] ?? 0;
    const tail = Atomics.load(queues, completionTail);
    for (let next = head; next !== tail; next = (next + 1) | 0) {
      const place = completions + ((next & completionMask) * completionBytes) / 4;
      const result = queues[place + 2] ?? failed;
      this.#results[queues[place] ?? 0] = transientErrors.includes(result) ? 0 : result;
    }
    Atomics.store(queues, completionHead, tail);
    return (tail - head) | 0;
  }
}

/** Throws an Error with the reason if this machine has none of them. */
export function systemCalls(): SystemCalls {
  if (process.platform !== 'linux') throw new Error('io_uring exists only on Linux');
  if (!architectures.includes(process.arch) || endianness() !== 'LE') {
    throw new Error(`io_uring is not used on ${process.arch}`);
  }
  const koffi = loadKoffi();
  const library = koffi.load(null);
  const syscall = 'long syscall(long number, ';
  const map = library.func(
    'void *mmap(uintptr_t place, size_t bytes, int access, int flags, int fd, long offset)',
  ) as (...values: number[]) => unknown;
  return {
    setup: library.func(`${syscall}uint32_t entries, void *parameters)`) as SystemCalls['setup'],
    enter: library.func(
      `${syscall}int fd, uint32_t submit, uint32_t complete, uint32_t flags, uintptr_t signals, size_t size)`,
    ) as SystemCalls['enter'],
    errno: () => koffi.errno(),
    map: (bytes, flags, descriptor, offset) => {
      const pointer = map(0, bytes, readWrite, flags, descriptor, offset);
      const address = koffi.address(pointer);
      // MAP_FAILED is the highest address.
      if (address === 0xffff_ffff_ffff_ffffn) {
        throw new Error(`io_uring has no memory (errno ${koffi.errno()})`);
      }
      return { address, memory: koffi.view(pointer, bytes) };
    },
  };
}

/** Loaded late: importing this package must not fail where koffi has no build for the machine. */
function loadKoffi(): typeof Koffi {
  try {
    return createRequire(import.meta.url)('koffi') as typeof Koffi;
  } catch (error) {
    throw new Error('the package koffi is not installed, or has no build for this machine', { cause: error });
  }
}
