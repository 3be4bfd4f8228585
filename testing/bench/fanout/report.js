import { bound, figure, markdownTable, spreadCell } from '../results.js';
import { percentile, spread } from '../statistics.js';
import { barChart } from '../plot.js';

/** @import { Target } from '../targets/target.js' */
/** @import { Bound } from '../results.js' */
/** @import { Spread } from '../statistics.js' */
/** @import { Setup } from './patterns.js' */
/** @import { RoundFigures } from './round.js' */

/**
 * @typedef {RoundFigures & {
 *   readonly setup: Setup,
 *   readonly pattern: string,
 *   readonly target: Target,
 *   readonly round: number,
 * }} Measured
 */

/**
 * The result of a target with a pattern. `oursOver`: Flagcast's processor time divided by the target's in the same round;
 * null for Flagcast itself and for runs without it. `share`: arrived events divided by expected events, 0-1.
 *
 * @typedef {{
 *   readonly clients: number,
 *   readonly channels: number,
 *   readonly pattern: string,
 *   readonly kind: string,
 *   readonly name: string,
 *   readonly cpuUs: Spread,
 *   readonly oursOver: Spread | null,
 *   readonly perSecond: Spread,
 *   readonly share: number,
 *   readonly lost: number,
 *   readonly bytesPerEvent: number,
 * }} Result
 */

const ours = 'flagcast';

/** Limits of `oursOver` with one channel and these numbers of clients. */
const boundClients = [1_000, 5_000];
const cpuBounds = /** @type {const} */ ([
  { pattern: 'single', kind: 'nchan', limit: 0.95 },
  { pattern: 'single', kind: 'ws', limit: 0.7 },
  { pattern: 'single', kind: 'socket.io', limit: 0.4 },
  { pattern: 'burst-20', kind: 'nchan', limit: 0.15 },
  { pattern: 'burst-20', kind: 'socket.io', limit: 0.06 },
]);

/**
 * @param {readonly Measured[]} measured
 * @param {readonly Setup[]} setups
 * @returns {readonly Result[]}
 */
export function summarize(measured, setups) {
  /** @type {Result[]} */
  const results = [];
  for (const setup of setups) {
    for (const { name: pattern } of setup.patterns) {
      const here = measured.filter((each) => each.setup === setup && each.pattern === pattern);
      const oursByRound = new Map(
        here.filter(({ target }) => target.kind === ours).map(({ round, cpuUs }) => [round, cpuUs]),
      );
      for (const target of new Set(here.map((each) => each.target))) {
        const rounds = here.filter((each) => each.target === target);
        const ratios = rounds.flatMap(({ round, cpuUs }) => {
          const own = oursByRound.get(round);
          return own === undefined ? [] : [own / cpuUs];
        });
        results.push({
          clients: setup.clients,
          channels: setup.channels,
          pattern,
          kind: target.kind,
          name: target.name,
          cpuUs: spread(rounds.map(({ cpuUs }) => cpuUs)),
          oursOver: target.kind === ours || ratios.length === 0 ? null : spread(ratios),
          perSecond: spread(rounds.map(({ perSecond }) => perSecond)),
          share: sum(rounds.map(({ delivered }) => delivered)) / sum(rounds.map(({ due }) => due)),
          lost: Math.max(...rounds.map(({ lost }) => lost)),
          bytesPerEvent: percentile(
            rounds.map(({ bytesPerEvent }) => bytesPerEvent),
            0.5,
          ),
        });
      }
    }
  }
  return results;
}

/** @param {readonly number[]} values */
function sum(values) {
  return values.reduce((total, value) => total + value, 0);
}

/**
 * @param {readonly Result[]} results
 * @returns {readonly Bound[]}
 */
export function boundsOf(results) {
  const owns = results.filter(({ kind }) => kind.startsWith(ours));
  const missing = owns.map(({ share, lost }) => (1 - share) * 100 + lost);
  return [
    ...(owns.length === 0 ? [] : [bound('missing events of Flagcast', Math.max(...missing), 0, ' %')]),
    ...results.flatMap(({ clients, channels, pattern, kind, name, oursOver }) => {
      const limit = cpuBounds.find((each) => each.pattern === pattern && each.kind === kind)?.limit;
      if (limit === undefined || oursOver === null || channels > 1 || !boundClients.includes(clients))
        return [];
      return [bound(`CPU over ${name}, ${pattern}, ${clients} clients`, oursOver.median, limit)];
    }),
  ];
}

/**
 * @param {readonly Result[]} results
 * @param {readonly Setup[]} setups
 */
export function tables(results, setups) {
  return setups
    .flatMap((setup) =>
      setup.patterns.map(({ name, title }) => {
        const rows = results.filter(
          ({ clients, channels, pattern }) =>
            clients === setup.clients && channels === setup.channels && pattern === name,
        );
        return `${setup.clients} clients, ${title}:\n\n${table(rows)}`;
      }),
    )
    .join('\n\n');
}

/** @param {readonly Result[]} rows */
function table(rows) {
  return markdownTable(
    ['', 'us of CPU per event', 'ours over it', 'events/s', 'arrived', 'bytes'],
    rows.map(({ name, cpuUs, oursOver, perSecond, share, lost, bytesPerEvent }) => [
      name,
      spreadCell(cpuUs),
      oursOver === null ? '' : spreadCell(oursOver),
      perSecond.median.toFixed(0),
      `${figure(share * 100)} %${lost === 0 ? '' : `, ${lost} closed`}`,
      bytesPerEvent.toFixed(0),
    ]),
  );
}

/**
 * Renders a chart for each setup with a panel for each of its patterns.
 *
 * @param {readonly Result[]} results
 * @param {readonly Setup[]} setups
 */
export function plots(results, setups) {
  return setups.map((setup) => ({
    name: `fanout-${setup.clients}${setup.channels === 1 ? '' : `-on-${setup.channels}`}.svg`,
    svg: barChart(
      `CPU of the server for each delivered event, in us: ${setup.clients} clients, channels: ${setup.channels}`,
      setup.patterns.map(({ name, title }) => ({
        title,
        bars: results
          .filter(
            ({ clients, channels, pattern }) =>
              clients === setup.clients && channels === setup.channels && pattern === name,
          )
          .map((result) => ({
            label: result.name,
            ours: result.kind.startsWith(ours),
            figure: result.cpuUs,
          })),
      })),
    ),
  }));
}
