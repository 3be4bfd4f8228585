import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it, onTestFinished } from 'vitest';
import { compare } from '../chaos/compare.js';
import { Ledger } from '../chaos/ledger.js';
import { plainKey } from '../chaos/segment.js';
import type { Revocation } from '../chaos/compare.js';
import type { CommittedEvent } from '../chaos/ledger.js';
import type { Segment } from '../chaos/segment.js';
import { runCommand, RunningCommand } from '../packages/server/test/command.js';

/** How long the faults last. Longer on demand: FLAGCAST_CHAOS_MINUTES=2. */
const minutes = Number(process.env['FLAGCAST_CHAOS_MINUTES'] ?? 0.25);
const file = fileURLToPath(new URL('../chaos/cli.js', import.meta.url));

interface Results {
  readonly clients: Readonly<Record<string, { readonly count: number; readonly deliveries: number }>>;
  readonly deliveries: number;
  readonly faultCount: number;
  readonly verdicts: readonly { readonly name: string; readonly count: number }[];
}

it(
  'G1: G2: G3: G4: G5: G6: G7: chaos leaves every client as the database is',
  async () => {
    const folder = await mkdtemp(path.join(tmpdir(), 'flagcast-chaos-test-'));
    onTestFinished(async () => await rm(folder, { recursive: true }));
    const args = `--minutes ${minutes} --seed 7 --clients 24 --no-browser --verbose --output ${folder}`;
    const chaos = new RunningCommand(args.split(' '), { file });
    onTestFinished(async () => {
      // It tidies up after itself, which a kill would not let it.
      chaos.signal('SIGTERM');
      await chaos.ended;
    });
    const { code, stdout, stderr } = await chaos.ended;
    expect(code, `${stdout}\n${stderr}`).toBe(0);
    const results = JSON.parse(await readFile(path.join(folder, 'chaos-7.json'), 'utf8')) as Results;
    expect(results.verdicts.filter(({ count }) => count !== 0)).toStrictEqual([]);
    expect(Object.keys(results.clients)).toHaveLength(8);
    for (const { deliveries } of Object.values(results.clients)) expect(deliveries).toBeGreaterThan(0);
    expect(results.faultCount).toBeGreaterThanOrEqual(10);
    process.stdout.write(`chaos: ${results.deliveries} deliveries, ${results.faultCount} faults\n`);
  },
  (minutes * 60 + 200) * 1_000,
);

it('chaos that is interrupted takes everything away and ends', async () => {
  const chaos = new RunningCommand(['--no-browser', '--clients', '8', '--verbose'], { file });
  await chaos.errorLine((line) => line.includes('lets the clients in'));
  chaos.signal('SIGINT');
  expect(await chaos.ended).toMatchObject({ code: 130 });
});

it.each([
  ['--servers 1', /--servers takes a whole number from 2 to 8/],
  ['--minutes soon', /--minutes takes a number from 0.1 to 240, not "soon"/],
  ['--weather bad', /'--weather'/],
])('chaos %s is refused', async (args, message) => {
  const { code, stderr } = await runCommand(args.split(' '), { file });
  expect(code).toBe(2);
  expect(stderr).toMatch(message);
});

describe('what a client was told is compared with what was committed', () => {
  const channel = { projectId: 'shop', environmentId: '1', env: 'prod' };

  /** Committed `second` seconds after the beginning, by a transaction that was written `tookSeconds` earlier. */
  function event(
    second: number,
    rest: Partial<CommittedEvent> & { tookSeconds?: number } = {},
  ): CommittedEvent {
    const { tookSeconds = 0, ...others } = rest;
    const writtenMs = (second - tookSeconds) * 1_000;
    return {
      id: String(writtenMs),
      xid: writtenMs,
      plainKey: plainKey({ entity_id: `flag ${second}`, action: 'updated', timestamp: String(writtenMs) }),
      environmentId: channel.environmentId,
      entityId: `flag ${second}`,
      action: 'updated',
      changeId: null,
      committedMs: second * 1_000,
      ...others,
    };
  }

  /** A client that was told of these, each a moment after its commit unless `atMs` says otherwise. */
  function told(events: readonly CommittedEvent[], rest: Partial<Segment> & { atMs?: number } = {}): Segment {
    const { atMs, ...others } = rest;
    const received = events.map(({ id, committedMs }) => ({ key: id, atMs: atMs ?? committedMs + 5 }));
    const keys = new Set(received.map(({ key }) => key));
    return {
      ...{ client: 'one', userId: '7', channel, named: 'id', fromMs: 0, untilMs: null, received, keys },
      ...others,
    };
  }

  function verdicts(
    segment: Segment,
    committed: readonly CommittedEvent[],
    revocations: readonly Revocation[] = [],
    settledMs?: number,
  ): string[] {
    return compare(segment, new Ledger(committed), revocations, settledMs).map(
      ({ fault, key }) => `${fault} ${key}`,
    );
  }

  const [first, second, third] = [event(10), event(20), event(30)];
  const all = [first, second, third];

  it('nothing is found where everything came once and in order', () => {
    expect(verdicts(told(all), all)).toStrictEqual([]);
  });

  it('an event that did not come is lost, also between two that came on a connection that ended', () => {
    expect(verdicts(told([first, third]), all)).toStrictEqual(['lost 20000']);
    expect(verdicts(told([first, third], { untilMs: 31_000 }), all)).toStrictEqual(['lost 20000']);
  });

  it('what comes after the end of a connection, was there before it, or is too new, is not lost', () => {
    expect(verdicts(told([first], { untilMs: 15_000 }), all)).toStrictEqual([]);
    expect(verdicts(told([second, third], { fromMs: 15_000 }), all)).toStrictEqual([]);
    expect(verdicts(told([first, second]), all, [], 25_000)).toStrictEqual([]);
  });

  it('an event that came twice is repeated, and one that nobody committed invented', () => {
    expect(verdicts(told([first, first, second, third]), all)).toStrictEqual(['repeated 10000']);
    expect(verdicts(told([first, second]), [first])).toStrictEqual(['invented 20000']);
  });

  it('an event of another channel is foreign', () => {
    const elsewhere = event(20, { environmentId: '2' });
    expect(verdicts(told([first, elsewhere]), [first, elsewhere])).toStrictEqual(['foreign 20000']);
  });

  it('so is one that came while the right to see it was away for longer than a server takes to notice', () => {
    const late = event(28);
    const away = { userId: '7', projectId: 'shop', fromMs: 9_000, untilMs: 29_000 };
    expect(verdicts(told([first, late]), [first, late], [away])).toStrictEqual(['foreign 28000']);
    // By then it has been given back.
    expect(verdicts(told([first, late], { atMs: 29_500 }), [first, late], [away])).toStrictEqual([]);
    expect(verdicts(told([first, late]), [first, late], [{ ...away, userId: '8' }])).toStrictEqual([]);
    expect(verdicts(told([first]), [first], [away])).toStrictEqual([]);
  });

  it('an event is out of order after one that was written and committed later', () => {
    expect(verdicts(told([second, first]), [first, second])).toStrictEqual(['disordered 10000']);
    // One read can return both, in the order in which they were written.
    const long = event(20, { tookSeconds: 15 });
    expect(verdicts(told([long, first]), [first, long])).toStrictEqual([]);
  });

  it('an event may come after later ones while a large transaction is read in pages', () => {
    const large = Array.from({ length: 500 }, (_, row) => ({
      ...event(5, { environmentId: '2' }),
      id: String(row),
      plainKey: `row ${row}`,
    }));
    expect(verdicts(told([second, first]), [...large, first, second])).toStrictEqual([]);
  });

  it('a request is out of order after its decision', () => {
    const [asked, decided] = (['pending', 'approved'] as const).map((action, index) =>
      event(20 + index / 10, { action, changeId: 'change', entityId: 'flag' }),
    ) as [CommittedEvent, CommittedEvent];
    expect(verdicts(told([asked, decided]), [asked, decided])).toStrictEqual([]);
    expect(verdicts(told([decided, asked]), [asked, decided])).toStrictEqual(['disordered 20000']);
  });

  it('events that the plain dialect cannot distinguish are counted', () => {
    const key = plainKey({ entity_id: 'flag', action: 'updated', timestamp: 'now' });
    const [once, twice] = [10, 20].map((at) => event(at, { plainKey: key })) as [
      CommittedEvent,
      CommittedEvent,
    ];
    const connection = (count: number, fromMs = 0): Segment => ({
      ...told([], { named: 'plain', fromMs }),
      received: Array.from({ length: count }, () => ({ key, atMs: 25_000 })),
    });
    expect(verdicts(connection(2), [once, twice])).toStrictEqual([]);
    expect(verdicts(connection(3), [once, twice])).toStrictEqual([`repeated ${key}`]);
    expect(verdicts(connection(1), [once, twice])).toStrictEqual(['lost 20000']);
    expect(verdicts(connection(1, 15_000), [once, twice])).toStrictEqual([]);
  });
});
