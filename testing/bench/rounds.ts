/** A figure over several rounds: the median, lowest and highest round. */
export interface Spread {
  readonly median: number;
  readonly low: number;
  readonly high: number;
}

/** Returns the smallest sample that at least `fraction` (0-1) of the samples do not exceed; NaN without samples. */
export function percentile(samples: readonly number[], fraction: number): number {
  const sorted = samples.toSorted((left, right) => left - right);
  return sorted[Math.max(1, Math.ceil(fraction * sorted.length)) - 1] ?? NaN;
}

/** The percentiles of a round, in the unit of its samples. */
export function percentiles(samples: readonly number[]) {
  const [p50 = NaN, p90 = NaN, p99 = NaN, max = NaN] = [0.5, 0.9, 0.99, 1].map((fraction) =>
    percentile(samples, fraction),
  );
  return { p50, p90, p99, max };
}

export function spread(rounds: readonly number[]): Spread {
  return { median: percentile(rounds, 0.5), low: percentile(rounds, 0), high: percentile(rounds, 1) };
}

/** Returns the spread of each figure. */
export function spreads<Figure extends string>(
  rounds: readonly Readonly<Record<Figure, number>>[],
): Record<Figure, Spread> {
  const names = Object.keys(rounds[0] ?? {}) as Figure[];
  const entries = names.map((name) => [name, spread(rounds.map((round) => round[name]))]);
  return Object.fromEntries(entries) as Record<Figure, Spread>;
}

/** Returns the spread of the ratio of a figure, computed within each round. */
export function ratio<Round>(
  ours: readonly Round[],
  others: readonly Round[],
  figure: (round: Round) => number,
): Spread {
  const values = others.map(figure);
  return spread(ours.map((round, index) => figure(round) / (values[index] ?? NaN)));
}

/** What the rounds measured of a target, in their order. */
export interface Measured<Target, Round> {
  readonly target: Target;
  readonly rounds: readonly Round[];
}

/** Returns a row of a table for each target: its name, and the spread of each figure. */
export function rowsOf<Figure extends string>(
  measured: readonly Measured<{ readonly name: string }, Readonly<Record<Figure, number>>>[],
) {
  return measured.map(({ target, rounds }) => ({ target: target.name, ...spreads(rounds) }));
}

/**
 * Measures each target once in each round. Each round starts with another target, so that the order does not bias the
 * results, and other load on the machine affects all targets.
 */
export async function measureInRounds<Target extends { readonly name: string }, Round>(
  { rounds, targets }: { readonly rounds: number; readonly targets: readonly Target[] },
  step: (text: string) => void,
  measure: (target: Target) => Promise<Round>,
): Promise<readonly Measured<Target, Round>[]> {
  const all = targets.map((target) => ({ target, rounds: [] as Round[] }));
  for (let round = 0; round < rounds; round += 1) {
    const first = round % Math.max(1, all.length);
    for (const measured of [...all.slice(first), ...all.slice(0, first)]) {
      step(`round ${round + 1} of ${rounds}, ${measured.target.name}`);
      measured.rounds.push(await measure(measured.target));
    }
  }
  return all;
}
