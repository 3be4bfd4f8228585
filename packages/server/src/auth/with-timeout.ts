import { describeError } from '../describe.js';

/** How long the host may take to say who somebody is or what they may see, in milliseconds. */
const hostTimeoutMs = 5_000;

/**
 * What a function of the host answers. Rejects with an Error that begins with `name` where the
 * function throws, rejects or takes longer than 5 s.
 */
export async function withTimeout(name: string, ask: () => Promise<unknown>): Promise<unknown> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(new Error(`no answer within ${hostTimeoutMs} ms`)), hostTimeoutMs);
  });
  try {
    return await Promise.race([Promise.resolve().then(ask), late]);
  } catch (error) {
    throw new Error(`${name} failed: ${describeError(error)}`, { cause: error });
  } finally {
    clearTimeout(timer);
  }
}
