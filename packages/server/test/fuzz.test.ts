import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import { harness, RunningCommand } from './command.js';

const fuzzCommand = await harness('fuzz');

interface FuzzResults {
  readonly seed: number;
  readonly parsers: readonly { readonly inputs: number }[];
  readonly attacks: {
    readonly attacks: number;
    readonly outcomes: Record<string, number>;
    readonly controlClients: { readonly events: number };
  };
}

it.runIf(process.platform === 'linux')(
  'G10: hostile input closes at most the connection that it was sent on',
  async () => {
    const folder = await mkdtemp(path.join(tmpdir(), 'flagcast-fuzz-test-'));
    onTestFinished(async () => await rm(folder, { recursive: true }));
    const args = '--inputs 2000 --attacks 150 --seed 1 --output'.split(' ');
    const fuzz = new RunningCommand([...args, folder], fuzzCommand);
    onTestFinished(async () => {
      // SIGTERM lets the run remove its processes and files; SIGKILL would not.
      fuzz.signal('SIGTERM');
      await fuzz.ended;
    });
    const { code, stdout, stderr } = await fuzz.ended;
    expect(code, `${stdout}\n${stderr}`).toBe(0);
    expect(stdout).not.toContain('MISSED');

    const results = JSON.parse(await readFile(path.join(folder, 'fuzz.json'), 'utf8')) as FuzzResults;
    expect(results).toMatchObject({ seed: 1, attacks: { attacks: 150 } });
    const inputs = results.parsers.reduce((sum, parser) => sum + parser.inputs, 0);
    expect(inputs).toBeGreaterThanOrEqual(2_000);
    const { outcomes, controlClients } = results.attacks;
    const kinds = new Set(Object.keys(outcomes).map((name) => name.split(':', 1)[0]));
    expect([...kinds].sort()).toStrictEqual(['frames', 'handshake', 'http', 'slow']);
    expect(controlClients.events).toBeGreaterThan(0);
  },
);
