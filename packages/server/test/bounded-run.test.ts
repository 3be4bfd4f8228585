import { once } from 'node:events';
import { type AddressInfo, createServer, type Socket } from 'node:net';
import { afterEach, expect, it, onTestFinished, vi } from 'vitest';
import { runBounded } from '../../../testing/testkit/bounded-run.ts';
import { Program, supervise } from '../../../testing/testkit/program.ts';

afterEach(() => vi.useRealTimers());

it('a clean-up that does not end keeps no other one from running', async () => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
  const reported = vi.spyOn(console, 'error').mockReturnValue();
  onTestFinished(() => reported.mockRestore());
  const ended: string[] = [];
  const running = runBounded(60_000, async (run) => {
    run.defer(async () => await Promise.resolve(ended.push('first')));
    run.defer(async () => await new Promise(() => undefined));
    run.defer(async () => await Promise.reject(new Error('no')));
    run.defer(async () => await Promise.resolve(ended.push('last')));
    return await Promise.resolve('done');
  });
  await vi.advanceTimersByTimeAsync(20_000);
  expect(await running).toBe('done');
  expect(ended).toStrictEqual(['last', 'first']);
  expect(reported).toHaveBeenCalledTimes(2);
});

/** Accepts connections, which end with the processes that have opened them. */
async function listen(): Promise<{ port: number; accepted: () => Promise<Socket> }> {
  const server = createServer();
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  onTestFinished(() => void server.close());
  return {
    port: (server.address() as AddressInfo).port,
    accepted: async () => {
      const [socket] = (await once(server, 'connection')) as [Socket];
      socket.on('error', () => undefined).resume();
      onTestFinished(() => void socket.destroy());
      return socket;
    },
  };
}

const connectTo = (port: number): string => `require('node:net').connect(${port}, '127.0.0.1')`;

it('a program ends with the process that has started it, also if that is killed', async () => {
  const { port, accepted } = await listen();
  const module = new URL('../../../testing/testkit/program.ts', import.meta.url).href;
  const script = `import { Program } from '${module}';
    new Program(process.execPath, ['-e', ${JSON.stringify(connectTo(port))}]);`;
  const accepting = accepted();
  const parent = new Program(process.execPath, ['--import', 'tsx', '--input-type=module', '--eval', script]);
  const socket = await accepting;
  const closed = once(socket, 'close');
  await parent.end();
  await closed;
});

it('a supervised program ends by SIGTERM, and what ignores that by SIGKILL with its child processes', async () => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
  const { port, accepted } = await listen();
  const accepting = accepted();
  const cleanUps: (() => Promise<unknown>)[] = [];
  const owner = {
    defer: (cleanUp: () => Promise<unknown>) => void cleanUps.push(cleanUp),
    fail: (error: Error) => expect.fail(error.message),
  };
  // As nginx: its worker keeps the pipes of the output open.
  const child = `require('node:child_process').spawn(process.execPath, ['-e', ${JSON.stringify(connectTo(port))}], { stdio: 'inherit' })`;
  const stubborn = new Program(process.execPath, [
    '-e',
    `process.on('SIGTERM', () => console.log('no')); ${child}`,
  ]);
  supervise(owner, stubborn, 'a stubborn program');
  const closed = once(await accepting, 'close');
  const ending = cleanUps[0]?.();
  await stubborn.line((line) => line === 'no');
  await vi.advanceTimersByTimeAsync(60_000);
  await ending;
  await closed;
  expect(await stubborn.ended).toMatchObject({ signal: 'SIGKILL' });
});
