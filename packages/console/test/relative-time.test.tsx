import { createRoot, type Root } from 'react-dom/client';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { I18nProvider } from '../src/i18n/i18n.js';
import { RelativeTime } from '../src/shell/relative-time.js';
import { rendered } from './fixture/rendered.js';

const now = Date.UTC(2026, 10, 29, 11, 30);
let root: Root;
let container: HTMLElement;

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval', 'Date'], now });
  container = document.createElement('div');
  root = createRoot(container);
});

afterEach(() => {
  vi.useRealTimers();
});

async function render(times: readonly number[]): Promise<void> {
  root.render(
    <I18nProvider>
      {times.map((at) => (
        <RelativeTime key={at} at={new Date(at).toISOString()} />
      ))}
    </I18nProvider>,
  );
  while (texts().length < times.length) await rendered();
  await rendered();
}

const texts = (): (string | null)[] =>
  [...container.querySelectorAll('time')].map((each) => each.textContent);

it('relative times count seconds, then minutes', async () => {
  await render([now, now - 50_000]);
  expect(texts()).toEqual(['just now', '50 s ago']);
  vi.advanceTimersByTime(12_000);
  await rendered();
  expect(texts()).toEqual(['12 s ago', '1 min ago']);
  root.unmount();
});

it('all relative times of a page share one timer, which stops with the last of them', async () => {
  await render(Array.from({ length: 500 }, (_, index) => now - index * 1_000));
  expect(vi.getTimerCount()).toBe(1);
  root.unmount();
  expect(vi.getTimerCount()).toBe(0);
});
