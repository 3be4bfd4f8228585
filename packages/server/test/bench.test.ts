import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import { readOptions } from '../../../testing/bench/options.ts';
import { harness, runCommand, RunningCommand } from './command.js';
import { hasIoUring } from './io-uring-here.js';

const benchCommand = await harness('bench');

/** Runs a benchmark. Resolves with its output and its results. */
async function measure(name: string, options: string): Promise<{ stdout: string; results: unknown }> {
  const folder = await mkdtemp(path.join(tmpdir(), 'flagcast-bench-test-'));
  onTestFinished(async () => await rm(folder, { recursive: true }));
  const bench = new RunningCommand([name, ...options.split(' '), '--output', folder], benchCommand);
  onTestFinished(async () => {
    // SIGTERM lets the run remove its processes and files; SIGKILL would not.
    bench.signal('SIGTERM');
    await bench.ended;
  });
  const { code, stdout, stderr } = await bench.ended;
  expect(code, stderr).toBe(0);
  const results: unknown = JSON.parse(await readFile(path.join(folder, `${name}.json`), 'utf8'));
  return { stdout, results };
}

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
  'bench fanout measures Flagcast, ws and bare loops of writes and sends, and all events arrive',
  async () => {
    const { stdout, results } = await measure(
      'fanout',
      '--clients 20 --rounds 1 --targets flagcast,ws,prebuilt,io_uring',
    );
    expect(stdout).toMatch(/^\| Flagcast +\| [\d.]+ /m);

    const { tables } = results as FanoutResults;
    expect(tables.map(({ caption }) => caption)).toStrictEqual([
      '20 clients, single events',
      '20 clients, bursts of 20',
      '20 clients, bursts of 300',
      '20 clients, 20 events at once, in different ones of 20 channels',
    ]);
    for (const { rows } of tables) {
      expect(rows).toMatchObject([
        { target: 'Flagcast', '% missing': { high: 0 }, closed: { high: 0 }, 'flagcast over it': '' },
        { target: 'ws, client.send(text)', '% missing': { high: 0 }, closed: { high: 0 } },
        { target: 'ws, frame built once', '% missing': { high: 0 }, closed: { high: 0 } },
        ...(hasIoUring
          ? [{ target: 'the same, by io_uring', '% missing': { high: 0 }, closed: { high: 0 } }]
          : []),
      ]);
      for (const row of rows) expect(row['µs of CPU per event'].median).toBeGreaterThan(0);
      expect(rows[1]?.['flagcast over it']).toHaveProperty('median');
    }
  },
);

interface ScaleResults {
  readonly tables: readonly { readonly rows: readonly Readonly<Record<string, unknown>>[] }[];
}

it.runIf(process.platform === 'linux')(
  'bench scale measures idle connections, one event to all, and a small channel while clients reconnect',
  async () => {
    const { results } = await measure('scale', '--clients 40 --workers 2 --rounds 1 --seconds 1');
    const number: unknown = expect.any(Number);
    const [idle, arrival, storm, latencies] = (results as ScaleResults).tables.map(({ rows }) => rows);
    expect(idle).toMatchObject([{ 'kB of memory each': number, '% of a core': number }]);
    const milliseconds = { median: number };
    expect(arrival).toMatchObject([{ 'first client': milliseconds, 'last client': milliseconds }]);
    expect(storm).toMatchObject([{ clients: 20, 'all are live after': number }]);
    expect(latencies).toMatchObject([
      { '': 'before the storm', p99: number },
      { '': 'during the storm', p99: number },
    ]);
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
