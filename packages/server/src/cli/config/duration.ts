const MS_PER_UNIT = new Map([
  ['ms', 1],
  ['s', 1_000],
  ['m', 60_000],
  ['h', 3_600_000],
  ['d', 86_400_000],
]);

/**
 * A duration as people write it (`500ms`, `30s`, `15m`, `1h`, `7d`, `1.5h`) in milliseconds: a
 * whole number, at least 1. Throws an Error that says what to write instead for anything else,
 * also for a number without a unit, which would be read as seconds by one and as milliseconds
 * by another.
 */
export function parseDuration(text: string): number {
  const match = /^(\d+(?:\.\d+)?)(ms|s|m|h|d)$/.exec(text.trim());
  const msPerUnit = MS_PER_UNIT.get(match?.[2] ?? '');
  if (match === null || msPerUnit === undefined) {
    throw new Error(
      `${JSON.stringify(text)} is not a duration: write a number and a unit, such as 500ms, 30s, 15m, 1h or 7d`,
    );
  }
  // 16.1 * 1000 is 16100.000000000002 in floating point.
  const durationMs = Math.round(Number(match[1]) * msPerUnit);
  if (durationMs < 1) throw new Error(`${JSON.stringify(text)} is too short a duration: the least is 1ms`);
  if (!Number.isSafeInteger(durationMs)) {
    throw new Error(`${JSON.stringify(text)} is too long a duration: write a smaller number`);
  }
  return durationMs;
}
