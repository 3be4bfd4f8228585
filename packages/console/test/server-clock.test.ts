import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { compareClocks, serverNowMs } from '../src/api/server-clock.js';

const noonMs = Date.parse('2026-03-01T12:00:00Z');
const dateAt = (atMs: number): string => new Date(atMs).toUTCString();

beforeEach(() => void vi.useFakeTimers({ now: noonMs }));
afterEach(() => {
  compareClocks(dateAt(noonMs), noonMs, noonMs);
  vi.useRealTimers();
});

it('clocks that differ by less than a response tells stay as they are', () => {
  compareClocks(dateAt(noonMs), noonMs + 900, noonMs + 950);
  compareClocks(dateAt(noonMs - 20_000), noonMs - 20_000, noonMs + 10_000);
  compareClocks(null, noonMs, noonMs);
  compareClocks('soon', noonMs, noonMs);
  expect(serverNowMs()).toBe(noonMs);
});

it('a wrong clock of the browser is corrected to half a second, until it is set right', () => {
  const serverMs = noonMs - 7_200_000;
  compareClocks(dateAt(serverMs), noonMs, noonMs);
  expect(Math.abs(serverNowMs() - serverMs)).toBeLessThanOrEqual(500);
  const corrected = serverNowMs();
  compareClocks(dateAt(serverMs), noonMs + 100, noonMs + 200);
  expect(serverNowMs()).toBe(corrected);
  compareClocks(dateAt(noonMs), noonMs, noonMs + 50);
  expect(serverNowMs()).toBe(noonMs);
});
