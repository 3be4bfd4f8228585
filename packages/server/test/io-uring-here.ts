import { closeSync } from 'node:fs';

/** Whether this machine lets us have io_uring, found out past the server. Where not, that is said. */
export const hasIoUring = await tryIoUring();
if (!hasIoUring) {
  process.stdout.write('io_uring: not for us on this machine, so that the server uses it is not tested\n');
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
  const ring = setup(425, 1, parameters);
  if (ring < 0) return false;
  closeSync(ring);
  // IORING_FEAT_RW_CUR_POS came with the operation that sends, in Linux 5.6.
  return (parameters.readUInt32LE(20) & 8) !== 0;
}
