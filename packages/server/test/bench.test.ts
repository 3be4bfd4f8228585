import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import { readOptions } from '../../../testing/bench/options.ts';
import { harness, runCommand, RunningCommand } from './command.js';

const benchCommand = await harness('bench');

interface FanoutResults {
  readonly tables: readonly {
    readonly caption: string;
    readonly rows: readonly {
      readonly target: string;
      readonly 'µs of CPU per event': { readonly median: number };
      readonly 'flagcast over it': { readonly median: number } | '';
      readonly '% missing': { readonly high: number };
      readonly closed: { readonly high: number };
    }[];
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
    expect(stdout).toMatch(/^\| Flagcast +\| [\d.]+ /m);

    const { tables } = JSON.parse(await readFile(path.join(folder, 'fanout.json'), 'utf8')) as FanoutResults;
    expect(tables.map(({ caption }) => caption)).toStrictEqual([
      '20 clients, single events',
      '20 clients, bursts of 20',
      '20 clients, bursts of 100',
      '20 clients, 20 events at once, in different ones of 20 channels',
    ]);
    for (const { rows } of tables) {
      expect(rows).toMatchObject([
        { target: 'Flagcast', '% missing': { high: 0 }, closed: { high: 0 }, 'flagcast over it': '' },
        { target: 'ws, client.send(text)', '% missing': { high: 0 }, closed: { high: 0 } },
      ]);
      for (const row of rows) expect(row['µs of CPU per event'].median).toBeGreaterThan(0);
      expect(rows[1]?.['flagcast over it']).toHaveProperty('median');
    }
  },
);

it('bench refuses a benchmark and a target that do not exist', async () => {
  const { code, stderr } = await runCommand(['everything'], benchCommand);
  expect(code).toBe(2);
  expect(stderr).toMatch(/no benchmark "everything"/);
  expect(() => readOptions({ targets: ['flagcast'] }, ['--targets', 'carrier-pigeon'])).toThrow(
    /no target "carrier-pigeon": use some of flagcast, /,
  );
});
