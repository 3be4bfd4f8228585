import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { createTimer } from '../../src/timer.js';

beforeEach(() => void vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'Date'] }));
afterEach(() => void vi.useRealTimers());

it('a timer fires once when its delay is over, also if that is longer than a timer of the platform can be', () => {
  const [start] = createTimer();
  const onDue = vi.fn();
  start(3e9, onDue);
  // The clock goes on, but not the timers: as if the machine slept.
  vi.setSystemTime(Date.now() + 3e9 - 2_001);
  vi.advanceTimersByTime(2_000);
  expect(onDue).not.toHaveBeenCalled();
  vi.advanceTimersByTime(1);
  vi.advanceTimersByTime(10_000);
  expect(onDue).toHaveBeenCalledTimes(1);
});

it('a timer that is started again or stopped does not fire for the previous start', () => {
  const [start, stop] = createTimer();
  const [first, second, third] = [vi.fn(), vi.fn(), vi.fn()];
  start(5_000, first);
  vi.advanceTimersByTime(3_000);
  start(5_000, second);
  vi.advanceTimersByTime(5_000);
  start(1_000, third);
  stop();
  vi.advanceTimersByTime(10_000);
  expect([first, second, third].map(({ mock }) => mock.calls.length)).toEqual([0, 1, 0]);
});
