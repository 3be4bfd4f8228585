import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { parseCommandLine } from '../testing/chaos/options.ts';
import { checkSegment } from '../testing/testkit/segment-checker.ts';
import { History } from '../testing/testkit/history.ts';
import { hasNatsServer } from '../testing/testkit/nats-server.ts';
import { plainKey } from '../testing/testkit/segment.ts';
import type { Revocation } from '../testing/testkit/segment-checker.ts';
import type { CommittedEvent } from '../testing/testkit/history.ts';
import type { Segment } from '../testing/testkit/segment.ts';
import { harness, RunningCommand } from '../packages/server/test/command.js';

/** How long the faults last. Longer on demand: FLAGCAST_CHAOS_MINUTES=2. */
const minutes = Number(process.env['FLAGCAST_CHAOS_MINUTES'] ?? 0.25);
const chaosCommand = await harness('chaos');

interface Results {
  readonly clients: Readonly<Record<string, { readonly count: number; readonly deliveries: number }>>;
  readonly deliveries: number;
  readonly faultCount: number;
  readonly presenceComparisons: number;
  readonly checks: readonly { readonly name: string; readonly count: number }[];
}

it.each([
  { system: 'servers that read the database', option: '' },
  // Only in a run of a chosen length, because each takes more than a minute.
  ...(hasNatsServer && process.env['FLAGCAST_CHAOS_MINUTES'] !== undefined
    ? [{ system: 'servers that share a reader', option: ' --relay' }]
    : []),
])(
  'G1: G2: G3: G4: G5: G6: G7: every client of $system matches the database after injected faults',
  async ({ option }) => {
    const folder = await mkdtemp(path.join(tmpdir(), 'flagcast-chaos-test-'));
    onTestFinished(async () => await rm(folder, { recursive: true }));
    const args = `--minutes ${minutes} --seed 7 --clients 9 --no-browser --verbose --output ${folder}${option}`;
    const chaos = new RunningCommand(args.split(' '), chaosCommand);
    onTestFinished(async () => {
      // SIGTERM lets the run remove its processes and files; SIGKILL would not.
      chaos.signal('SIGTERM');
      await chaos.ended;
    });
    const { code, stdout, stderr } = await chaos.ended;
    expect(code, `${stdout}\n${stderr}`).toBe(0);
    const results = JSON.parse(await readFile(path.join(folder, 'chaos-7.json'), 'utf8')) as Results;
    expect(results.checks.filter(({ count }) => count !== 0)).toStrictEqual([]);
    expect(Object.keys(results.clients)).toHaveLength(16);
    for (const { deliveries } of Object.values(results.clients)) expect(deliveries).toBeGreaterThan(0);
    expect(results.faultCount).toBeGreaterThanOrEqual(10);
    expect(results.presenceComparisons).toBeGreaterThanOrEqual(10);
    process.stdout.write(`chaos: ${results.deliveries} deliveries, ${results.faultCount} faults\n`);
  },
  (minutes * 60 + 900) * 1_000,
);

it('an interrupted chaos run removes its processes and ends with code 130', async () => {
  const chaos = new RunningCommand(['--no-browser', '--clients', '9', '--verbose'], chaosCommand);
  await chaos.errorLine((line) => line.includes('connects the clients'));
  chaos.signal('SIGINT');
  expect(await chaos.ended).toMatchObject({ code: 130 });
});

it.each([
  ['--servers 1', /--servers takes a whole number from 2 to 8/],
  ['--minutes soon', /--minutes takes a number from 0.1 to 240, not "soon"/],
  ['--weather bad', /'--weather'/],
])('chaos refuses the option %s', (args, message) => {
  expect(() => parseCommandLine(args.split(' '))).toThrow(message);
});

describe('the checker of a segment', () => {
  const channel = { projectId: 'shop', environmentId: '1', env: 'prod' };

  /** An event that is committed after `second` seconds, in a transaction that wrote it `tookSeconds` earlier. */
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
      projectId: channel.projectId,
      environmentId: channel.environmentId,
      entityId: `flag ${second}`,
      action: 'updated',
      changeId: null,
      committedMs: second * 1_000,
      ...others,
    };
  }

  /** A segment whose client received the events at `atMs`; default: 5 ms after each commit. */
  function received(
    events: readonly CommittedEvent[],
    rest: Partial<Segment> & { atMs?: number } = {},
  ): Segment {
    const { atMs, ...others } = rest;
    const receipts = events.map(({ id, committedMs }) => ({ key: id, atMs: atMs ?? committedMs + 5 }));
    const keys = new Set(receipts.map(({ key }) => key));
    return {
      ...{
        client: 'one',
        userId: '7',
        channel,
        keyedBy: 'id',
        fromMs: 0,
        untilMs: null,
        received: receipts,
        keys,
      },
      ...others,
    };
  }

  function anomaliesOf(
    segment: Segment,
    committed: readonly CommittedEvent[],
    revocations: readonly Revocation[] = [],
    quiescedAtMs?: number,
  ): string[] {
    return checkSegment(segment, new History(committed), revocations, quiescedAtMs).map(
      ({ kind, key }) => `${kind} ${key}`,
    );
  }

  const [first, second, third] = [event(10), event(20), event(30)];
  const all = [first, second, third];
  /** A membership that is missing between these times, in seconds. The changes take no time. */
  const missing = (projectId: string, from: number, until: number): Revocation => ({
    ...{ userId: '7', projectId },
    ...{ requestedMs: from * 1_000, fromMs: from * 1_000, untilMs: until * 1_000, restoredMs: until * 1_000 },
  });

  it('finds nothing if every event was received once and in order', () => {
    expect(anomaliesOf(received(all), all)).toStrictEqual([]);
  });

  it('reports a missing event as lost, on an open connection and between two events of a closed one', () => {
    expect(anomaliesOf(received([first, third]), all)).toStrictEqual(['lost 20000']);
    expect(anomaliesOf(received([first, third], { untilMs: 31_000 }), all)).toStrictEqual(['lost 20000']);
  });

  it('reports no loss of events committed after the end of a connection, before its start, or after quiescence', () => {
    expect(anomaliesOf(received([first], { untilMs: 15_000 }), all)).toStrictEqual([]);
    expect(anomaliesOf(received([second, third], { fromMs: 15_000 }), all)).toStrictEqual([]);
    expect(anomaliesOf(received([first, second]), all, [], 25_000)).toStrictEqual([]);
  });

  it('reports an event received twice as repeated, and one that was not committed as invented', () => {
    expect(anomaliesOf(received([first, first, second, third]), all)).toStrictEqual(['repeated 10000']);
    expect(anomaliesOf(received([first, second]), [first])).toStrictEqual(['invented 20000']);
  });

  it('reports an event of another channel as foreign', () => {
    const elsewhere = event(20, { environmentId: '2' });
    expect(anomaliesOf(received([first, elsewhere]), [first, elsewhere])).toStrictEqual(['foreign 20000']);
  });

  it('reports an event as foreign if the right was revoked for longer than the recheck interval', () => {
    const late = event(28);
    const away = missing('shop', 9, 29);
    expect(anomaliesOf(received([first, late]), [first, late], [away])).toStrictEqual(['foreign 28000']);
    // The right is restored by then.
    expect(anomaliesOf(received([first, late], { atMs: 29_500 }), [first, late], [away])).toStrictEqual([]);
    expect(anomaliesOf(received([first, late]), [first, late], [{ ...away, userId: '8' }])).toStrictEqual([]);
    expect(anomaliesOf(received([first]), [first], [away])).toStrictEqual([]);
  });

  it('reports an event as disordered after one that was written and committed later', () => {
    expect(anomaliesOf(received([second, first]), [first, second])).toStrictEqual(['disordered 10000']);
    // One read can return both, ordered by row.
    const long = event(20, { tookSeconds: 15 });
    expect(anomaliesOf(received([long, first]), [first, long])).toStrictEqual([]);
  });

  it('allows an event from before the snapshot after later ones, because a resume may repeat it', () => {
    const since = { fromMs: 15_000 };
    expect(anomaliesOf(received([third, first], since), [first, third])).toStrictEqual([]);
    expect(anomaliesOf(received([third, second], since), [second, third])).toStrictEqual([
      'disordered 20000',
    ]);
  });

  const rowsOf = (at: number, count: number): CommittedEvent[] =>
    Array.from({ length: count }, (_, row) => ({
      ...event(at),
      id: String(at * 1_000 + row),
      plainKey: `row ${row} of ${at}`,
    }));

  it('reports no loss of the last pages of a transaction in a segment that has ended after later events', () => {
    const large = rowsOf(5, 500);
    const committed = [...large, third];
    const ended = { untilMs: 60_000 };
    const [head, last] = [large.slice(0, 498), large.slice(499)];
    expect(anomaliesOf(received([...head, third], ended), committed)).toStrictEqual([]);
    expect(anomaliesOf(received([...head, third]), committed)).toStrictEqual(['lost 5498', 'lost 5499']);
    expect(anomaliesOf(received([...head, third, ...last], ended), committed)).toStrictEqual(['lost 5498']);
  });

  it('allows the rows of a transaction that its page did not have after later events, however long that takes', () => {
    const [large, cut] = [rowsOf(5, 500), rowsOf(8, 2)];
    const [head, rest] = [large.slice(0, 400), large.slice(400)];
    const committed = [...large, ...cut, first, third];
    const before = [...head, ...cut.slice(0, 1), first, third];
    expect(anomaliesOf(received([...before, ...cut.slice(1), ...rest]), committed)).toStrictEqual([]);
    const anHour = { atMs: 3_600_000 };
    expect(anomaliesOf(received([...before, ...cut.slice(1), ...rest], anHour), committed)).toStrictEqual([]);
    // The first row of a transaction is in the page that the order of commits gives.
    expect(anomaliesOf(received([...large, ...cut, third, first]), committed)).toStrictEqual([
      'disordered 10000',
    ]);
    expect(anomaliesOf(received([...large, first, third, ...cut]), committed)).toStrictEqual([
      'disordered 8000',
    ]);
    // Without a transaction of more than one page, no page ends within one.
    expect(
      anomaliesOf(received([...cut.slice(0, 1), first, third, ...cut.slice(1)]), [...cut, first, third]),
    ).toStrictEqual(['disordered 8001']);
  });

  it('reports a request as disordered after its decision', () => {
    const [asked, decided] = (['pending', 'approved'] as const).map((action, index) =>
      event(20 + index / 10, { action, changeId: 'change', entityId: 'flag' }),
    ) as [CommittedEvent, CommittedEvent];
    expect(anomaliesOf(received([asked, decided]), [asked, decided])).toStrictEqual([]);
    expect(anomaliesOf(received([decided, asked]), [asked, decided])).toStrictEqual(['disordered 20000']);
  });

  describe('of the approvals feed', () => {
    const feed = { ...channel, projectIds: ['shop', 'pets'], viewableProjectIds: ['shop', 'pets'] };
    const step = (second: number, rest: Partial<CommittedEvent> = {}): CommittedEvent =>
      event(second, { action: 'pending', changeId: `change ${second}`, ...rest });
    const [one, other] = [step(10), step(20, { projectId: 'pets', environmentId: '2' })];
    const following = (events: readonly CommittedEvent[]): Segment => received(events, { channel: feed });

    it('compares the steps in all environments of its projects, and no other events', () => {
      expect(anomaliesOf(following([one, other]), [one, other, third])).toStrictEqual([]);
      expect(anomaliesOf(following([one]), [one, other])).toStrictEqual(['lost 20000']);
      const foreign = step(40, { projectId: 'bank' });
      expect(anomaliesOf(following([one, third, foreign]), [one, third, foreign])).toStrictEqual([
        'foreign 30000',
        'foreign 40000',
      ]);
    });

    it('reports a step after a right was revoked as foreign', () => {
      const late = step(28, { projectId: 'pets' });
      expect(
        anomaliesOf(following([one, other, late]), [one, other, late], [missing('pets', 9, 29)]),
      ).toStrictEqual(['foreign 28000']);
    });

    it('reports no loss in a project that was not in the feed when the segment began, also after it was given and revoked', () => {
      const late = step(60);
      const since = (fromMs: number): Segment => ({ ...following([late]), fromMs });
      const away = { ...missing('pets', -Infinity, 5), restoredMs: 12_000 };
      expect(anomaliesOf(since(11_000), [other, late], [away, missing('pets', 50, 90)])).toStrictEqual([]);
      // The snapshot was requested before the right was given.
      expect(anomaliesOf(since(15_000), [other, late], [away])).toStrictEqual([]);
      const [own, foreign] = [step(30), step(20, { projectId: 'pets' })];
      expect(anomaliesOf(since(11_000), [own, foreign, late], [away])).toStrictEqual(['lost 30000']);
    });

    it('reports a loss in a project that was revoked and given again since the segment began', () => {
      expect(anomaliesOf(following([one]), [one, other], [missing('pets', 9, 29)])).toStrictEqual([
        'lost 20000',
      ]);
    });

    it('reports contents that the request did not have after the step', () => {
      const versions = ['pending a', 'pending b'].map((contents, index) => ({
        afterSeq: (index + 1) * 10_000,
        contents,
      }));
      const updated = step(20, { action: 'updated', changeId: 'change 10' });
      const anomaliesWith = (...contents: string[]): string[] => {
        const segment = following([one, updated]);
        const receipts = segment.received.map((receipt, index) => ({
          ...receipt,
          contents: contents[index],
        }));
        const history = new History([one, updated], new Map([['change 10', versions]]));
        return checkSegment({ ...segment, received: receipts }, history, []).map(
          ({ kind, key }) => `${kind} ${key}`,
        );
      };
      expect(anomaliesWith('pending a', 'pending b')).toStrictEqual([]);
      // A replay has the newest contents.
      expect(anomaliesWith('pending b', 'pending b')).toStrictEqual([]);
      expect(anomaliesWith('pending a', 'pending a')).toStrictEqual(['contents 20000']);
    });
  });

  it('counts events that look the same in the plain dialect', () => {
    const key = plainKey({ entity_id: 'flag', action: 'updated', timestamp: 'now' });
    const [once, twice] = [10, 20].map((at) => event(at, { plainKey: key })) as [
      CommittedEvent,
      CommittedEvent,
    ];
    const connection = (count: number, fromMs = 0): Segment => ({
      ...received([], { keyedBy: 'plain', fromMs }),
      received: Array.from({ length: count }, () => ({ key, atMs: 25_000 })),
    });
    expect(anomaliesOf(connection(2), [once, twice])).toStrictEqual([]);
    expect(anomaliesOf(connection(3), [once, twice])).toStrictEqual([`repeated ${key}`]);
    expect(anomaliesOf(connection(1), [once, twice])).toStrictEqual(['lost 20000']);
    expect(anomaliesOf(connection(1, 15_000), [once, twice])).toStrictEqual([]);
  });
});
