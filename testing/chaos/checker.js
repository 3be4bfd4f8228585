import { checkSegment } from './segment-checker.js';
import { withClient } from './seed-database.js';
import { readHistory } from './history.js';
import { timelineOf } from './timeline.js';

/** @import { Anomaly, Revocation } from './segment-checker.js' */
/** @import { Leaks } from './leaks.js' */
/** @import { ChaosOptions } from './options.js' */
/** @import { MixMember } from './client-mix.js' */
/** @import { ServerFigures } from './server-program.js' */
/** @import { ServerProcess } from './server-process.js' */
/** @import { ClientChannel } from './quiesce.js' */
/** @import { InjectedFault } from './timeline.js' */

/**
 * `quiescedAtMs`: every event committed before this must be received. `stuck`: clients that did not catch up.
 * `different`: client states that differ from the database. `unlogged`: number of audit rows missing in the event log.
 * `problems`: failures of the servers and the browser. `leaks`: what the servers still hold after the clients have closed.
 *
 * @typedef {{
 *   readonly options: ChaosOptions,
 *   readonly databaseUrl: string,
 *   readonly members: readonly MixMember[],
 *   readonly servers: readonly ServerProcess[],
 *   readonly startedAtMs: number,
 *   readonly quiescedAtMs: number,
 *   readonly faults: readonly InjectedFault[],
 *   readonly skipped: ReadonlyMap<string, string>,
 *   readonly problems: readonly string[],
 *   readonly stuck: readonly ClientChannel[],
 *   readonly different: readonly string[],
 *   readonly unlogged: number,
 *   readonly leaks: readonly (Leaks & { readonly server: string })[],
 *   readonly revocations: readonly Revocation[],
 *   readonly browser: boolean,
 *   readonly memory: {
 *     readonly warm: ServerFigures,
 *     readonly end: ServerFigures,
 *     readonly growth: { readonly share: number, readonly counts: boolean, readonly tooMuch: boolean },
 *   },
 * }} Outcome
 *
 * One check. `count`: the number of violations; the check passes with 0.
 *
 * @typedef {{ readonly name: string, readonly count: number, readonly note: string }} CheckResult
 *
 * `rejected`: number of refused or closed connections, by HTTP status or close code; the client library reports only
 * those after which it gives up. `details`: the first violations of each kind, with timelines.
 *
 * @typedef {{
 *   readonly seed: number,
 *   readonly command: string,
 *   readonly minutes: number,
 *   readonly servers: number,
 *   readonly clients: Readonly<Record<string, { readonly count: number, readonly deliveries: number, readonly segments: number }>>,
 *   readonly committed: number,
 *   readonly deliveries: number,
 *   readonly rejected: Readonly<Record<string, number>>,
 *   readonly faults: Readonly<Record<string, number>>,
 *   readonly faultCount: number,
 *   readonly skipped: Readonly<Record<string, string>>,
 *   readonly checks: readonly CheckResult[],
 *   readonly valid: boolean,
 *   readonly details: readonly string[],
 * }} Report
 */

/** Number of timelines for each kind of anomaly. */
const maxTimelines = 3;
const maxListed = 10;

/**
 * Compares every client with the database.
 *
 * @param {Outcome} outcome
 * @returns {Promise<Report>}
 */
export async function check(outcome) {
  const { options, members, servers, stuck, different, problems, leaks } = outcome;
  const history = await withClient(outcome.databaseUrl, readHistory);
  const stuckClients = new Set(stuck.map(({ member }) => member.client.name));
  const anomalies = members.flatMap(({ client }) =>
    client.segments.flatMap((segment) => {
      const found = checkSegment(segment, history, outcome.revocations, outcome.quiescedAtMs);
      // A stuck client is reported as such; its missing last events are not reported again.
      const isStuck = segment.untilMs === null && stuckClients.has(client.name);
      return found.filter(({ kind }) => !(isStuck && kind === 'lost'));
    }),
  );
  const violations = members.flatMap(({ client }) =>
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
  const { minutes, seed, clients } = options;
  return {
    seed,
    command: `npm run chaos -- --minutes ${minutes} --seed ${seed} --servers ${options.servers} --clients ${clients}${options.browser ? '' : ' --no-browser'}`,
    minutes,
    servers: servers.length,
    clients: byKind(members),
    committed: history.byId.size,
    deliveries: members.reduce((total, { client }) => total + deliveriesTo(client.segments), 0),
    rejected: countRejected(members),
    faults: countBy(outcome.faults.map(({ kind }) => kind)),
    faultCount: outcome.faults.length,
    skipped: Object.fromEntries(outcome.skipped),
    checks,
    valid: checks.every(({ count }) => count === 0),
    details,
  };
}

/**
 * @param {Outcome} outcome
 * @param {{ readonly anomalies: readonly Anomaly[], readonly stuckClients: number, readonly violations: number }} found
 * @returns {CheckResult[]}
 */
function runChecks(outcome, { anomalies, stuckClients, violations }) {
  const { different, problems, leaks, revocations, browser } = outcome;
  const { warm, end, growth } = outcome.memory;
  /** @param {Anomaly['kind']} kind */
  const count = (kind) => anomalies.filter((anomaly) => anomaly.kind === kind).length;
  /** @param {keyof Leaks} kind */
  const sum = (kind) => leaks.reduce((total, each) => total + each[kind], 0);
  return [
    { name: 'not logged', count: outcome.unlogged, note: '' },
    { name: 'lost', count: count('lost'), note: '' },
    { name: 'repeated', count: count('repeated'), note: '' },
    { name: 'never committed', count: count('invented'), note: '' },
    { name: 'out of order', count: count('disordered'), note: '' },
    { name: 'foreign', count: count('foreign'), note: `${revocations.length} memberships were revoked` },
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

/**
 * @param {ClientChannel} stuck
 * @param {number} startedAtMs
 */
function describeStuck({ member, channel }, startedAtMs) {
  const via = member.viaProxy ? ', behind the proxy' : '';
  return [
    `stuck: ${member.client.name} in ${channel.env} of ${channel.projectId}${via}`,
    ...member.client.log
      .slice(-12)
      .map(([atMs, text]) => `  ${((atMs - startedAtMs) / 1_000).toFixed(3)} s  ${text}`),
  ];
}

/**
 * @param {readonly Anomaly[]} anomalies
 * @param {Outcome} outcome
 */
function timelines(anomalies, outcome) {
  /** @type {Map<string, number>} */
  const counts = new Map();
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

/** @param {MixMember['client']['segments']} segments */
function deliveriesTo(segments) {
  return segments.reduce((total, { received }) => total + received.length, 0);
}

/** @param {readonly MixMember[]} members */
function byKind(members) {
  /** @type {Record<string, { count: number, deliveries: number, segments: number }>} */
  const kinds = {};
  for (const { kind, client } of members) {
    const of = (kinds[kind] ??= { count: 0, deliveries: 0, segments: 0 });
    of.count += 1;
    of.deliveries += deliveriesTo(client.segments);
    of.segments += client.segments.length;
  }
  return kinds;
}

/** @param {readonly MixMember[]} members */
function countRejected(members) {
  /** @type {Record<string, number>} */
  const rejections = {};
  for (const { client } of members) {
    for (const [code, times] of Object.entries(client.rejections))
      rejections[code] = (rejections[code] ?? 0) + times;
  }
  return rejections;
}

/** @param {readonly string[]} names */
function countBy(names) {
  /** @type {Record<string, number>} */
  const counts = {};
  for (const name of [...names].sort()) counts[name] = (counts[name] ?? 0) + 1;
  return counts;
}

/** @param {number} bytes */
function mebibytes(bytes) {
  return Math.round(bytes / 2 ** 20);
}
