import type { RecordingClient } from '../testkit/clients/recording-client.ts';
import { readHistory } from '../testkit/history.ts';
import { withClient } from '../testkit/postgres.ts';
import type { ClientChannel } from '../testkit/quiesce.ts';
import { type Anomaly, checkSegment, type Revocation } from '../testkit/segment-checker.ts';
import type { Leaks, measureGrowth } from './leaks.ts';
import type { ChaosOptions } from './options.ts';
import type { ServerProcess } from './server-process.ts';
import type { ServerFigures } from './server-program.ts';
import { type InjectedFault, timelineOf } from './timeline.ts';

/** What the checker needs to know of a run. */
export interface Outcome {
  readonly options: ChaosOptions;
  readonly databaseUrl: string;
  readonly clients: readonly RecordingClient[];
  readonly servers: readonly ServerProcess[];
  readonly startedAtMs: number;
  /** Every event committed before this must be received. */
  readonly quiescedAtMs: number;
  readonly faults: readonly InjectedFault[];
  readonly skipped: ReadonlyMap<string, string>;
  /** Failures of the servers and the browser. */
  readonly problems: readonly string[];
  /** Clients that did not catch up. */
  readonly stuck: readonly ClientChannel[];
  /** Client states that differ from the database. */
  readonly different: readonly string[];
  /** Number of audit rows missing in the event log. */
  readonly unlogged: number;
  /** What the servers still hold after the clients have closed. */
  readonly leaks: readonly (Leaks & { readonly server: string })[];
  readonly revocations: readonly Revocation[];
  readonly browser: boolean;
  readonly memory: {
    readonly warm: ServerFigures;
    readonly end: ServerFigures;
    readonly growth: ReturnType<typeof measureGrowth>;
  };
}

/** `count`: the number of violations; the check passes with 0. */
interface CheckResult {
  readonly name: string;
  readonly count: number;
  readonly note: string;
}

interface KindFigures {
  count: number;
  deliveries: number;
  segments: number;
}

export interface Report {
  readonly seed: number;
  readonly command: string;
  readonly minutes: number;
  readonly servers: number;
  readonly clients: Readonly<Record<string, Readonly<KindFigures>>>;
  readonly committed: number;
  readonly deliveries: number;
  /**
   * Number of refused or closed connections, by HTTP status or close code; the client library reports only those after
   * which it gives up.
   */
  readonly rejected: Readonly<Record<string, number>>;
  readonly faults: Readonly<Record<string, number>>;
  readonly faultCount: number;
  readonly skipped: Readonly<Record<string, string>>;
  readonly checks: readonly CheckResult[];
  readonly valid: boolean;
  /** The first violations of each kind, with timelines. */
  readonly details: readonly string[];
}

/** Number of timelines for each kind of anomaly. */
const maxTimelines = 3;
const maxListed = 10;

/** Compares every client with the database. */
export async function check(outcome: Outcome): Promise<Report> {
  const { options, clients, servers, stuck, different, problems, leaks } = outcome;
  const history = await withClient(outcome.databaseUrl, readHistory);
  const stuckClients = new Set(stuck.map(({ client }) => client.name));
  const anomalies = clients.flatMap((client) =>
    client.segments.flatMap((segment) => {
      const found = checkSegment(segment, history, outcome.revocations, outcome.quiescedAtMs);
      // A stuck client is reported as such; its missing last events are not reported again.
      const isStuck = segment.untilMs === null && stuckClients.has(client.name);
      return found.filter(({ kind }) => !(isStuck && kind === 'lost'));
    }),
  );
  const violations = clients.flatMap((client) =>
    client.violations.map((violation) => `${client.name}: ${violation}`),
  );
  const checks = runChecks(outcome, {
    anomalies,
    stuckClients: stuckClients.size,
    violations: violations.length,
  });
  const details = [
    ...timelines(anomalies, outcome),
    ...problems,
    ...stuck.slice(0, maxListed).flatMap((one) => describeStuck(one, outcome.startedAtMs)),
    ...different.slice(0, maxListed),
    ...violations.slice(0, maxListed),
    ...leaks
      .filter((each) => each.connections + each.sockets + each.timers > 0)
      .map((each) => JSON.stringify(each)),
  ];
  const { minutes, seed } = options;
  return {
    seed,
    command: `npm run chaos -- --minutes ${minutes} --seed ${seed} --servers ${options.servers} --clients ${options.clients}${options.browser ? '' : ' --no-browser'}`,
    minutes,
    servers: servers.length,
    clients: byKind(clients),
    committed: history.byId.size,
    deliveries: countDeliveries(clients),
    rejected: countRejected(clients),
    faults: countBy(outcome.faults.map(({ kind }) => kind)),
    faultCount: outcome.faults.length,
    skipped: Object.fromEntries(outcome.skipped),
    checks,
    valid: checks.every(({ count }) => count === 0),
    details,
  };
}

function runChecks(
  outcome: Outcome,
  {
    anomalies,
    stuckClients,
    violations,
  }: {
    readonly anomalies: readonly Anomaly[];
    readonly stuckClients: number;
    readonly violations: number;
  },
): CheckResult[] {
  const { different, problems, leaks, revocations, browser } = outcome;
  const { warm, end, growth } = outcome.memory;
  const count = (kind: Anomaly['kind']): number =>
    anomalies.filter((anomaly) => anomaly.kind === kind).length;
  const sum = (kind: keyof Leaks): number => leaks.reduce((total, each) => total + each[kind], 0);
  return [
    { name: 'not logged', count: outcome.unlogged, note: '' },
    { name: 'lost', count: count('lost'), note: '' },
    { name: 'repeated', count: count('repeated'), note: '' },
    { name: 'never committed', count: count('invented'), note: '' },
    { name: 'out of order', count: count('disordered'), note: '' },
    {
      name: 'foreign',
      count: count('foreign'),
      note: `${revocations.filter(({ fromMs }) => fromMs > -Infinity).length} memberships were revoked`,
    },
    { name: 'steps with other contents', count: count('contents'), note: '' },
    { name: 'stuck clients', count: stuckClients, note: '' },
    { name: 'states that differ', count: different.length, note: browser ? "with the browser's" : '' },
    { name: 'wrong responses to clients', count: violations, note: '' },
    { name: 'server failures', count: problems.length, note: '' },
    { name: 'leaked connections', count: sum('connections'), note: '' },
    { name: 'leaked sockets', count: sum('sockets'), note: '' },
    { name: 'leaked timers', count: sum('timers'), note: '' },
    {
      name: 'memory growth over 10 %',
      count: growth.counts && growth.tooMuch ? 1 : 0,
      note:
        `${mebibytes(warm.residentBytes)} MiB after the warm-up, ${mebibytes(end.residentBytes)} at the end (heap ${mebibytes(warm.heapBytes)} and ${mebibytes(end.heapBytes)})` +
        (growth.counts ? '' : '; not checked in runs under two minutes'),
    },
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
  const counts = new Map<string, number>();
  return anomalies.flatMap((anomaly) => {
    const { kind, segment, event, key } = anomaly;
    const count = counts.get(kind) ?? 0;
    counts.set(kind, count + 1);
    if (count >= maxTimelines) return [];
    return [
      `${kind}: ${event?.id ?? key} at ${segment.client}, in ${segment.channel.env}`,
      ...timelineOf(anomaly, outcome),
    ];
  });
}

/** The number of events that the clients have received. */
export function countDeliveries(clients: readonly RecordingClient[]): number {
  const segments = clients.flatMap((client) => client.segments);
  return segments.reduce((total, { received }) => total + received.length, 0);
}

function byKind(clients: readonly RecordingClient[]): Record<string, KindFigures> {
  const kinds: Record<string, KindFigures> = {};
  for (const client of clients) {
    const of = (kinds[client.options.kind] ??= { count: 0, deliveries: 0, segments: 0 });
    of.count += 1;
    of.deliveries += countDeliveries([client]);
    of.segments += client.segments.length;
  }
  return kinds;
}

function countRejected(clients: readonly RecordingClient[]): Record<string, number> {
  const sums: Record<string, number> = {};
  for (const { rejections } of clients) {
    for (const [code, times] of Object.entries(rejections)) sums[code] = (sums[code] ?? 0) + times;
  }
  return sums;
}

function countBy(names: readonly string[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const name of [...names].sort()) counts[name] = (counts[name] ?? 0) + 1;
  return counts;
}

function mebibytes(bytes: number): number {
  return Math.round(bytes / 2 ** 20);
}
