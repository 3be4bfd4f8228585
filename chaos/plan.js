/** @import { Random } from '../packages/demo/dist/company/random.js' */
/** @import { FaultKind } from './faults.js' */

/**
 * One fault of the plan: when it comes, in milliseconds from the beginning, how long it lasts where it lasts,
 * on whom (a number from 0 up to 1, of however many there are) and how hard (from 0 up to 1).
 *
 * @typedef {{
 *   readonly kind: FaultKind,
 *   readonly atMs: number,
 *   readonly holdMs: number,
 *   readonly target: number,
 *   readonly strength: number,
 * }} PlannedFault
 */

/** Between two faults of a long run, on average, in milliseconds. */
const longGapMs = 4_500;
/** A run has at least so many. */
const fewestFaults = 14;
/** Before the first one and after the last one, as a share of the run. */
const calmShare = 0.08;
/** How long a fault lasts, in milliseconds. */
const hold = { leastMs: 300, mostMs: 8_000 };

/**
 * Draws the faults of a run: the same seed gives the same ones. Each kind comes once before any comes again.
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
