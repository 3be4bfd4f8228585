import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import { harness, runCommand, RunningCommand } from './command.js';

const benchCommand = harness('bench');

interface FanoutResults {
  readonly results: readonly {
    readonly kind: string;
    readonly pattern: string;
    readonly share: number;
    readonly lost: number;
    readonly cpuUs: { readonly median: number };
    readonly oursOver: { readonly median: number } | null;
  }[];
}

it.runIf(process.platform === 'linux')(
  'bench fanout measures Flagcast and ws, and all events arrive',
  async () => {
    const folder = await mkdtemp(path.join(tmpdir(), 'flagcast-bench-test-'));
    onTestFinished(async () => await rm(folder, { recursive: true }));
    const args = 'fanout --clients 20 --rounds 1 --targets flagcast,ws --output'.split(' ');
    const bench = new RunningCommand([...args, folder], benchCommand);
    onTestFinished(async () => {
      // SIGTERM lets the run remove its processes and files; SIGKILL would not.
      bench.signal('SIGTERM');
      await bench.ended;
    });
    const { code, stdout, stderr } = await bench.ended;
    expect(code, stderr).toBe(0);
    expect(stdout).toMatch(/^\| Flagcast, plain dialect +\| [\d.]+ /m);

    const { results } = JSON.parse(await readFile(path.join(folder, 'fanout.json'), 'utf8')) as FanoutResults;
    expect(results.map(({ pattern, kind }) => `${pattern} ${kind}`)).toStrictEqual(
      ['single', 'burst-20', 'burst-100', 'channels'].flatMap((pattern) => [
        `${pattern} flagcast`,
        `${pattern} ws`,
      ]),
    );
    for (const { kind, share, lost, cpuUs, oursOver } of results) {
      expect({ share, lost }).toStrictEqual({ share: 1, lost: 0 });
      expect(cpuUs.median).toBeGreaterThan(0);
      if (kind === 'ws') expect(oursOver?.median).toBeGreaterThan(0);
    }
  },
);

it.each([
  ['fanout --clients 0', /--clients takes whole numbers from 1 to/],
  ['fanout --targets carrier-pigeon', /no target "carrier-pigeon": use some of flagcast, /],
  ['latency --clients 10', /latency takes no --clients/],
  ['everything', /no benchmark "everything"/],
])('bench refuses the arguments %s', async (args, message) => {
  const { code, stderr } = await runCommand(args.split(' '), benchCommand);
  expect(code).toBe(2);
  expect(stderr).toMatch(message);
});
