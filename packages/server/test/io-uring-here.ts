import { closeSync } from 'node:fs';

/** Whether this machine allows io_uring, determined without the code of the server. */
export const hasIoUring = await tryIoUring();
if (!hasIoUring) {
  process.stdout.write('This machine does not allow io_uring: tests of it are skipped\n');
}

async function tryIoUring(): Promise<boolean> {
  if (process.platform !== 'linux' || !['x64', 'arm64'].includes(process.arch)) return false;
  const koffi = await import('koffi').catch(() => null);
  if (koffi === null) return false;
  const setup = koffi.default
    .load(null)
    .func('long syscall(long number, uint32_t entries, void *parameters)') as (
    ...values: [number, number, Buffer]
  ) => number;
  const parameters = Buffer.alloc(120);
  const descriptor = setup(425, 1, parameters);
  if (descriptor < 0) return false;
  closeSync(descriptor);
  // Linux 5.6 added IORING_FEAT_RW_CUR_POS and the send operation.
  return (parameters.readUInt32LE(20) & 8) !== 0;
}
