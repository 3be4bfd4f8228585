import type { SocketWriterFactory } from 'flagcast';
import { BatchedSocketWriter } from './batched-socket-writer.js';
import { SubmissionQueue } from './submission-queue.js';

/** The servers of a process share one queue, for as long as the process runs. */
let queue: SubmissionQueue | null = null;

/** The `socketWriter` of `createFlagcast`. Throws an Error with the reason if this machine does not allow io_uring. */
export const ioUring: SocketWriterFactory = (onFailure) => {
  queue ??= new SubmissionQueue();
  if (!queue.isReliable()) throw new Error('a completion was missing, so io_uring is no longer used');
  return new BatchedSocketWriter(queue, onFailure);
};
