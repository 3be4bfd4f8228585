import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { ReadableLists } from '../../src/host/feature-lists.js';
import type { Queries } from '../../src/postgres/session-pool.js';

beforeEach(() => vi.useFakeTimers({ toFake: ['performance'] }));
afterEach(() => vi.useRealTimers());

const all = { rules: { id: 'uuid' }, tags: { id: 'uuid', slug: 'text' } };
const session = (found: object): Queries =>
  ({ query: async () => await Promise.resolve({ rows: [[JSON.stringify(found)]] }) }) as unknown as Queries;

it('states without a list of the reader are refused for ten seconds, and again after the list was readable', async () => {
  const requestPoll = vi.fn<() => void>();
  const lists = new ReadableLists(requestPoll);
  const fewer = { rules: all.rules, tags: { id: 'uuid' } };
  const more = { ...all, segments: { id: 'uuid' } };
  expect(await lists.read(session(more), all)).toEqual(more);
  expect(requestPoll).not.toHaveBeenCalled();
  for (let round = 1; round <= 2; round += 1) {
    await expect(lists.read(session(fewer), all)).rejects.toThrow(/cannot be read/);
    vi.advanceTimersByTime(10_000);
    await expect(lists.read(session(fewer), all)).rejects.toThrow(/cannot be read/);
    expect(requestPoll).toHaveBeenCalledTimes(2 * round);
    // The server may follow the relay, and so does not check.
    vi.advanceTimersByTime(1);
    expect(await lists.read(session(fewer), all)).toEqual(fewer);
    expect(await lists.read(session(all), all)).toEqual(all);
  }
});
