import { compare } from './compare.js';
import { withClient } from './company.js';
import { readLedger } from './ledger.js';
import { timelineOf } from './timeline.js';

/** @import { Breach, Revocation } from './compare.js' */
/** @import { Left } from './leaks.js' */
/** @import { ChaosOptions } from './options.js' */
/** @import { Member } from './population.js' */
/** @import { ServerFigures } from './server-program.js' */
/** @import { ServerProcess } from './server-process.js' */
/** @import { Watch } from './settle.js' */
/** @import { InflictedFault } from './timeline.js' */

/**
 * `settledMs`: what was committed before this has to have come in the end. `stuck`: clients that were not where the database is in the end. `different`: states that are not the
 * database's. `unlogged`: audit rows that are not in the event log. `problems`: of the servers and the browser. `left`: of the clients, once they had gone.
 *
 * @typedef {{
 *   readonly options: ChaosOptions,
 *   readonly databaseUrl: string,
 *   readonly members: readonly Member[],
 *   readonly servers: readonly ServerProcess[],
 *   readonly startedAtMs: number,
 *   readonly settledMs: number,
 *   readonly faults: readonly InflictedFault[],
 *   readonly leftOut: ReadonlyMap<string, string>,
 *   readonly problems: readonly string[],
 *   readonly stuck: readonly Watch[],
 *   readonly different: readonly string[],
 *   readonly unlogged: number,
 *   readonly left: readonly (Left & { readonly server: string })[],
 *   readonly revocations: readonly Revocation[],
 *   readonly browser: boolean,
 *   readonly memory: {
 *     readonly warm: ServerFigures,
 *     readonly end: ServerFigures,
 *     readonly growth: { readonly share: number, readonly judged: boolean, readonly tooMuch: boolean },
 *   },
 * }} Outcome
 *
 * What has to be none, and what there was of it.
 *
 * @typedef {{ readonly name: string, readonly count: number, readonly note: string }} Verdict
 *
 * `sentAway`: how often clients were sent away, by HTTP status or close code; the library tells of it only
 * where it gives up. `details`: what was found, with timelines; the first few of each.
 *
 * @typedef {{
 *   readonly seed: number,
 *   readonly command: string,
 *   readonly minutes: number,
 *   readonly servers: number,
 *   readonly clients: Readonly<Record<string, { readonly count: number, readonly deliveries: number, readonly segments: number }>>,
 *   readonly committed: number,
 *   readonly deliveries: number,
 *   readonly sentAway: Readonly<Record<string, number>>,
 *   readonly faults: Readonly<Record<string, number>>,
 *   readonly faultCount: number,
 *   readonly leftOut: Readonly<Record<string, string>>,
 *   readonly verdicts: readonly Verdict[],
 *   readonly holds: boolean,
 *   readonly details: readonly string[],
 * }} Report
 */

/** Breaches of one kind that are told at length. */
const toldAtLength = 3;
const maxListed = 10;

/**
 * Compares every client with the database.
 *
 * @param {Outcome} outcome
 * @returns {Promise<Report>}
 */
export async function judge(outcome) {
  const { options, members, servers, stuck, different, problems, left, memory } = outcome;
  const ledger = await withClient(outcome.databaseUrl, readLedger);
  const stuckClients = new Set(stuck.map(({ member }) => member.client.name));
  const breaches = members.flatMap(({ client }) =>
    client.segments.flatMap((segment) => {
      const found = compare(segment, ledger, outcome.revocations, outcome.settledMs);
      // Who is stuck has been told so already; that it lacks the last events says nothing more.
      const isStuck = segment.untilMs === null && stuckClients.has(client.name);
      return found.filter(({ fault }) => !(isStuck && fault === 'lost'));
    }),
  );
  const wrongs = members.flatMap(({ client }) => client.wrongs.map((wrong) => `${client.name}: ${wrong}`));
  /** @param {Breach['fault']} fault */
  const count = (fault) => breaches.filter((breach) => breach.fault === fault).length;
  /** @param {keyof Left} what */
  const sum = (what) => left.reduce((total, each) => total + each[what], 0);
  const { warm, end, growth } = memory;
  /** @type {Verdict[]} */
  const verdicts = [
    { name: 'not logged', count: outcome.unlogged, note: '' },
    { name: 'lost', count: count('lost'), note: '' },
    { name: 'repeated', count: count('repeated'), note: '' },
    { name: 'never committed', count: count('invented'), note: '' },
    { name: 'out of order', count: count('disordered'), note: '' },
    {
      name: 'foreign',
      count: count('foreign'),
      note: `${outcome.revocations.length} rights were taken away`,
    },
    { name: 'stuck clients', count: stuckClients.size, note: '' },
    {
      name: 'states that differ',
      count: different.length,
      note: outcome.browser ? "with the browser's" : '',
    },
    { name: 'clients treated wrongly', count: wrongs.length, note: '' },
    { name: 'servers that failed', count: problems.length, note: '' },
    { name: 'connections left', count: sum('connections'), note: '' },
    { name: 'sockets left', count: sum('sockets'), note: '' },
    { name: 'timers left', count: sum('timers'), note: '' },
    {
      name: 'memory grown by more than 10 %',
      count: growth.judged && growth.tooMuch ? 1 : 0,
      note:
        `${mebibytes(warm.residentBytes)} MiB after the warm-up, ${mebibytes(end.residentBytes)} at the end (heap ${mebibytes(warm.heapBytes)} and ${mebibytes(end.heapBytes)})` +
        (growth.judged ? '' : '; not judged in less than two minutes'),
    },
  ];
  const details = [
    ...timelines(breaches, outcome),
    ...problems,
    ...stuck
      .slice(0, maxListed)
      .flatMap(({ member, channel }) => [
        `stuck: ${member.client.name} in ${channel.env} of ${channel.projectId}${member.viaProxy ? ', behind the proxy' : ''}`,
        ...member.client.history
          .slice(-12)
          .map(([atMs, what]) => `  ${((atMs - outcome.startedAtMs) / 1_000).toFixed(3)} s  ${what}`),
      ]),
    ...different.slice(0, maxListed),
    ...wrongs.slice(0, maxListed),
    ...left
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
    committed: ledger.byId.size,
    deliveries: members.reduce((total, { client }) => total + deliveriesTo(client.segments), 0),
    sentAway: sentAway(members),
    faults: countBy(outcome.faults.map(({ kind }) => kind)),
    faultCount: outcome.faults.length,
    leftOut: Object.fromEntries(outcome.leftOut),
    verdicts,
    holds: verdicts.every((verdict) => verdict.count === 0),
    details,
  };
}

/**
 * @param {readonly Breach[]} breaches
 * @param {Outcome} outcome
 */
function timelines(breaches, outcome) {
  /** @type {Map<string, number>} */
  const told = new Map();
  return breaches.flatMap((breach) => {
    const already = told.get(breach.fault) ?? 0;
    told.set(breach.fault, already + 1);
    if (already >= toldAtLength) return [];
    const { fault, segment, event, key } = breach;
    return [
      `${fault}: ${event?.id ?? key} at ${segment.client}, in ${segment.channel.env}`,
      ...timelineOf(breach, outcome),
    ];
  });
}

/** @param {Member['client']['segments']} segments */
function deliveriesTo(segments) {
  return segments.reduce((total, { received }) => total + received.length, 0);
}

/** @param {readonly Member[]} members */
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

/** @param {readonly Member[]} members */
function sentAway(members) {
  /** @type {Record<string, number>} */
  const codes = {};
  for (const { client } of members) {
    for (const [code, times] of Object.entries(client.codes)) codes[code] = (codes[code] ?? 0) + times;
  }
  return codes;
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
