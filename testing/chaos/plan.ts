import type { SeededRandom } from '../testkit/random.ts';

export interface PlannedFault {
  readonly kind: string;
  /** When it starts, in milliseconds from the start of the run. */
  readonly atMs: number;
  /** How long it lasts, where it lasts, in milliseconds. */
  readonly holdMs: number;
  /** From 0 to 1: selects the affected server, channel or user. */
  readonly target: number;
  /** From 0 to 1. */
  readonly strength: number;
}

/** Average interval of the faults in a long run, in milliseconds. */
const longGapMs = 4_500;
/** Average number of faults in a short run. */
const fewestFaults = 14;
/** Time without faults at the start and at the end, as a share of the run. */
const calmShare = 0.08;
/** How long a fault lasts, in milliseconds. */
const hold = { leastMs: 300, mostMs: 8_000 };

/** Draws the faults of a run from its seed. Every kind occurs once before any kind is repeated. */
export function drawPlan(random: SeededRandom, kinds: readonly string[], durationMs: number): PlannedFault[] {
  const fromMs = durationMs * calmShare;
  const untilMs = durationMs * (1 - calmShare);
  const gapMs = Math.min(longGapMs, (untilMs - fromMs) / fewestFaults);
  const longestMs = Math.min(hold.mostMs, durationMs / 8);
  const plan: PlannedFault[] = [];
  let deck: string[] = [];
  for (let atMs = fromMs; atMs < untilMs; atMs += gapMs * (0.4 + 1.2 * random.next())) {
    if (deck.length === 0) deck = random.shuffle(kinds);
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
