import { describeError } from '../describe.js';
import { errorCode } from '../postgres/errors.js';
import type { SocketWriterFactory } from '../transport/socket-writer.js';

const packageName = '@flagcast/io-uring';

/** `ioUring` of the optional package, else a factory that throws why it is not used, for the server's log. */
export async function loadSocketWriter(isOn: boolean): Promise<SocketWriterFactory> {
  let reason = 'FLAGCAST_IO_URING is off';
  try {
    if (isOn) return ((await import(packageName)) as { readonly ioUring: SocketWriterFactory }).ioUring;
  } catch (error) {
    const isMissing = errorCode(error) === 'ERR_MODULE_NOT_FOUND';
    reason = isMissing ? `${packageName} is not installed` : describeError(error);
  }
  return () => {
    throw new Error(reason);
  };
}
