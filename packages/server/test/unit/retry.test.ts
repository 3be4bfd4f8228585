import { describe, expect, it } from 'vitest';
import { backoffMs, type FailedAttempt, retry } from '../../src/retry.js';

const fast = { baseMs: 1, capMs: 2 };

describe('retry', () => {
  it('repeats an operation until it resolves, and reports each failure before the pause', async () => {
    const failures: FailedAttempt[] = [];
    let attempts = 0;
    const result = await retry(
      async ({ failed }) => {
        expect(failed).toBe(attempts);
        attempts += 1;
        if (attempts < 3) throw new Error(`failure ${attempts}`);
        return await Promise.resolve('done');
      },
      { ...fast, onRetry: (failure) => void failures.push(failure) },
    );
    expect(result).toBe('done');
    expect(failures.map(({ error, attempt }) => [error.message, attempt])).toStrictEqual([
      ['failure 1', 1],
      ['failure 2', 2],
    ]);
  });

  it('rejects with what onRetry throws', async () => {
    const operation = async (): Promise<never> => await Promise.reject(new Error('down'));
    const onRetry = ({ error, attempt }: FailedAttempt): void => {
      if (attempt === 2) throw new Error('two attempts', { cause: error });
    };
    await expect(retry(operation, { ...fast, onRetry })).rejects.toThrow('two attempts');
  });

  it('counts failures from zero after an operation has reset them', async () => {
    const counted: number[] = [];
    let runs = 0;
    await retry(
      async (attempts) => {
        runs += 1;
        if (runs === 3) attempts.reset();
        if (runs < 5) await Promise.reject(new Error('lost'));
      },
      { ...fast, onRetry: ({ attempt }) => void counted.push(attempt) },
    );
    expect(counted).toStrictEqual([1, 2, 1, 2]);
  });

  it('resolves with null when the signal is aborted during a pause', async () => {
    const controller = new AbortController();
    const result = await retry(async () => await Promise.reject(new Error('down')), {
      signal: controller.signal,
      baseMs: 3_600_000,
      capMs: 7_200_000,
      onRetry: () => void setImmediate(() => controller.abort()),
    });
    expect(result).toBeNull();
  });

  it('resolves with null when the operation fails because the signal is aborted', async () => {
    const controller = new AbortController();
    const result = await retry(
      async () => {
        controller.abort();
        return await Promise.reject(new Error('aborted'));
      },
      { signal: controller.signal, onRetry: () => expect.fail('there is no retry') },
    );
    expect(result).toBeNull();
  });
});

it('doubles the longest pause with each failure up to a limit', () => {
  for (const [attempt, longest] of [
    [1, 200],
    [2, 400],
    [6, 5_000],
    [1_000, 5_000],
  ] as const) {
    const pauses = Array.from({ length: 200 }, () => backoffMs(attempt));
    expect(Math.min(...pauses)).toBeGreaterThanOrEqual(50);
    expect(Math.max(...pauses)).toBeLessThanOrEqual(longest);
    expect(Math.max(...pauses)).toBeGreaterThan(longest / 2);
  }
});
