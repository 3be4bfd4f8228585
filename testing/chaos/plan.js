/** @import { Random } from '../../packages/demo/dist/company/random.js' */
/** @import { FaultKind } from './nemesis.js' */

/**
 * A planned fault. `atMs`: when it starts, in milliseconds from the start of the run. `holdMs`: how long it lasts, where
 * it lasts. `target`: from 0 to 1, selects the affected server, channel or user. `strength`: from 0 to 1.
 *
 * @typedef {{
 *   readonly kind: FaultKind,
 *   readonly atMs: number,
 *   readonly holdMs: number,
 *   readonly target: number,
 *   readonly strength: number,
 * }} PlannedFault
 */

/** Average interval of the faults in a long run, in milliseconds. */
const longGapMs = 4_500;
/** Average number of faults in a short run. */
const fewestFaults = 14;
/** Time without faults at the start and at the end, as a share of the run. */
const calmShare = 0.08;
/** How long a fault lasts, in milliseconds. */
const hold = { leastMs: 300, mostMs: 8_000 };

/**
 * Draws the faults of a run from its seed. Every kind occurs once before any kind is repeated.
 *
 * @param {Random} random
 * @param {readonly FaultKind[]} kinds
 * @param {number} durationMs
 * @returns {PlannedFault[]}
 */
export function drawPlan(random, kinds, durationMs) {
  const fromMs = durationMs * calmShare;
  const untilMs = durationMs * (1 - calmShare);
  const gapMs = Math.min(longGapMs, (untilMs - fromMs) / fewestFaults);
  const longestMs = Math.min(hold.mostMs, durationMs / 8);
  /** @type {PlannedFault[]} */
  const plan = [];
  /** @type {FaultKind[]} */
  let deck = [];
  for (let atMs = fromMs; atMs < untilMs; atMs += gapMs * (0.4 + 1.2 * random.next())) {
    if (deck.length === 0) deck = shuffle(random, kinds);
    const kind = deck.pop();
    if (kind === undefined) break;
    plan.push({
      kind,
      atMs: Math.round(atMs),
      holdMs: Math.round(hold.leastMs + (longestMs - hold.leastMs) * random.next()),
      target: random.next(),
      strength: random.next(),
    });
  }
  return plan;
}

/**
 * @template Item
 * @param {Random} random
 * @param {readonly Item[]} items
 */
function shuffle(random, items) {
  const left = [...items];
  /** @type {Item[]} */
  const shuffled = [];
  while (left.length > 0) shuffled.push(...left.splice(random.between(0, left.length - 1), 1));
  return shuffled;
}
