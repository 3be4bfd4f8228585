import type { RecordingClient } from '../testkit/clients/recording-client.ts';
import { readHistory } from '../testkit/history.ts';
import { withClient } from '../testkit/postgres.ts';
import type { ClientChannel } from '../testkit/quiesce.ts';
import { type Anomaly, checkSegment } from '../testkit/segment-checker.ts';
import type { ChaosSystem } from './fault.ts';
import type { Leaks } from './leaks.ts';
import type { ChaosOptions } from './options.ts';
import type { ServerFigures } from './server-program.ts';
import type { PresenceGroup } from './presence.ts';
import { type InjectedFault, timelineOf } from './timeline.ts';

/** What the checker needs to know of a run. */
export interface Outcome {
  readonly options: ChaosOptions;
  readonly system: ChaosSystem;
  readonly clients: readonly RecordingClient[];
  readonly presence: readonly PresenceGroup[];
  readonly startedAtMs: number;
  /** Every event committed before this must be received. */
  readonly quiescedAtMs: number;
  readonly faults: readonly InjectedFault[];
  /** What the run left out, with the reason. */
  readonly skipped: ReadonlyMap<string, string>;
  /** Failures of the servers, the faults and the browser. */
  readonly problems: readonly string[];
  /** Clients that did not catch up. */
  readonly stuck: readonly ClientChannel[];
  /** Client states that differ from the database. */
  readonly different: readonly string[];
  /** What the servers still hold after the clients have closed. */
  readonly leaks: readonly (Leaks & { readonly server: string })[];
  readonly browser: boolean;
  /** Of the first server, after the warm-up and at the end. */
  readonly warm: ServerFigures;
  readonly end: ServerFigures;
}

export type Report = Awaited<ReturnType<typeof check>>;

/**
 * What the memory of the server that ran throughout may grow by after the warm-up. In use, in bytes: what it keeps of the
 * newest events, and compiled code, differ by 3.5 MiB between moments of rest; to keep 100 bytes of each of 50,000 deliveries
 * is too much. Resident, as a share: the allocator does not return what the largest burst needed, which comes once or never
 * before the warm-up ends. The soak has no bursts, and allows 5 %.
 */
const allowedGrowth = { inUseBytes: 5 * 2 ** 20, residentShare: 0.25 };
/** Memory growth counts from this duration of a run, in milliseconds: in shorter runs the heap has not stabilised. */
const growthCountsFromMs = 120_000;
/** Number of timelines for each kind of anomaly. */
const maxTimelines = 3;
const maxListed = 10;
/** What the report calls the kinds of anomalies. */
const anomalyNames: Readonly<Record<Anomaly['kind'], string>> = {
  lost: 'lost',
  repeated: 'repeated',
  invented: 'never committed',
  disordered: 'out of order',
  foreign: 'foreign',
  contents: 'steps with other contents',
};

/** Compares every client with the database. */
export async function check(outcome: Outcome) {
  const { options, system, clients, presence, stuck, different, problems, leaks } = outcome;
  const history = await withClient(system.databaseUrl, readHistory);
  const stuckClients = new Set(stuck.map(({ client }) => client.name));
  const anomalies = clients.flatMap((client) =>
    client.segments.flatMap((segment) => {
      const found = checkSegment(segment, history, system.revocations, outcome.quiescedAtMs);
      // A stuck client is reported as such; its missing last events are not reported again.
      const isStuck = segment.untilMs === null && stuckClients.has(client.name);
      return found.filter(({ kind }) => !(isStuck && kind === 'lost'));
    }),
  );
  const violations = clients.flatMap((client) =>
    client.violations.map((violation) => `${client.name}: ${violation}`),
  );
  const wrongPresence = presence.flatMap((group) => group.violations);
  const presenceComparisons = presence.reduce((total, group) => total + group.comparisons, 0);
  const revoked = system.revocations.filter(({ fromMs }) => fromMs > -Infinity).length;
  const leaked = (kind: keyof Leaks): number => leaks.reduce((total, each) => total + each[kind], 0);
  /** Each passes with 0. */
  const counts: readonly (readonly [name: string, count: number, note?: string])[] = [
    ['not logged', system.unlogged],
    ...Object.entries(anomalyNames).map(
      ([kind, name]) =>
        [
          name,
          anomalies.filter((anomaly) => anomaly.kind === kind).length,
          kind === 'foreign' ? `${revoked} memberships were revoked` : '',
        ] as const,
    ),
    ['stuck clients', stuckClients.size],
    ['states that differ', different.length, outcome.browser ? "with the browser's" : ''],
    ['wrong presence', wrongPresence.length, `${presenceComparisons} comparisons after quiet periods`],
    ['wrong responses to clients', violations.length],
    ['server failures', problems.length],
    ['leaked connections', leaked('connections')],
    ['leaked sockets', leaked('sockets')],
    ['leaked timers', leaked('timers')],
    memoryGrowth(outcome),
  ];
  const checks = counts.map(([name, count, note = '']) => ({ name, count, note }));
  const { minutes, seed } = options;
  return {
    seed,
    command: `npm run chaos -- --minutes ${minutes} --seed ${seed} --servers ${options.servers} --clients ${options.clients}${options.browser ? '' : ' --no-browser'}${options.relay ? ' --relay' : ''}`,
    minutes,
    servers: system.servers.length,
    clients: byKind(clients),
    committed: history.byId.size,
    deliveries: countDeliveries(clients),
    presenceComparisons,
    /** By HTTP status or close code; the client library reports only those after which it gives up. */
    rejected: sumsOf(clients.flatMap(({ rejections }) => Object.entries(rejections))),
    faults: sumsOf(outcome.faults.map(({ kind }) => [kind, 1])),
    faultCount: outcome.faults.length,
    skipped: Object.fromEntries(outcome.skipped),
    checks,
    valid: checks.every(({ count }) => count === 0),
    /** The first violations of each kind, with timelines. */
    details: [
      ...timelines(anomalies, outcome),
      ...problems,
      ...stuck.slice(0, maxListed).flatMap((one) => describeStuck(one, outcome.startedAtMs)),
      ...different.slice(0, maxListed),
      ...wrongPresence.slice(0, maxTimelines),
      ...violations.slice(0, maxListed),
      ...leaks
        .filter((each) => each.connections + each.sockets + each.timers > 0)
        .map((each) => JSON.stringify(each)),
    ],
  };
}

function memoryGrowth({ system, warm, end }: Outcome): readonly [string, number, string] {
  const counts = system.durationMs >= growthCountsFromMs;
  const tooMuch =
    end.heapBytes - warm.heapBytes > allowedGrowth.inUseBytes ||
    end.residentBytes / warm.residentBytes - 1 > allowedGrowth.residentShare;
  const mebibytes = (bytes: number): string => (bytes / 2 ** 20).toFixed(1);
  const note = `heap ${mebibytes(warm.heapBytes)} MiB after the warm-up, ${mebibytes(end.heapBytes)} at the end; resident ${mebibytes(warm.residentBytes)} and ${mebibytes(end.residentBytes)}`;
  return [
    'memory growth',
    counts && tooMuch ? 1 : 0,
    `${note}${counts ? '' : '; not checked in runs under two minutes'}`,
  ];
}

function describeStuck({ client, channel }: ClientChannel, startedAtMs: number): string[] {
  return [
    `stuck: ${client.name} in ${channel.env} of ${channel.projectId}, connected to ${client.options.baseUrl}`,
    ...client.log
      .slice(-12)
      .map(([atMs, text]) => `  ${((atMs - startedAtMs) / 1_000).toFixed(3)} s  ${text}`),
  ];
}

function timelines(anomalies: readonly Anomaly[], outcome: Outcome): string[] {
  return Object.keys(anomalyNames).flatMap((kind) =>
    anomalies
      .filter((anomaly) => anomaly.kind === kind)
      .slice(0, maxTimelines)
      .flatMap((anomaly) => [
        `${kind}: ${anomaly.event?.id ?? anomaly.key} at ${anomaly.segment.client}, in ${anomaly.segment.channel.env}`,
        ...timelineOf(anomaly, outcome),
      ]),
  );
}

/** The number of events that the clients have received. */
export function countDeliveries(clients: readonly RecordingClient[]): number {
  const segments = clients.flatMap((client) => client.segments);
  return segments.reduce((total, { received }) => total + received.length, 0);
}

function byKind(clients: readonly RecordingClient[]) {
  const kinds = [...new Set(clients.map(({ options }) => options.kind))];
  return Object.fromEntries(
    kinds.map((kind) => {
      const ofKind = clients.filter(({ options }) => options.kind === kind);
      const segments = ofKind.reduce((total, client) => total + client.segments.length, 0);
      return [kind, { count: ofKind.length, deliveries: countDeliveries(ofKind), segments }];
    }),
  );
}

/** Sums the numbers of each name, in the order of the names. */
function sumsOf(entries: readonly (readonly [name: string, count: number])[]): Record<string, number> {
  const sums: Record<string, number> = {};
  for (const [name] of [...entries].sort(([one], [other]) => (one < other ? -1 : 1))) sums[name] = 0;
  for (const [name, count] of entries) sums[name] = (sums[name] ?? 0) + count;
  return sums;
}
