import { act } from 'react';
import { createRoot, type Root } from 'react-dom/client';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { I18nProvider } from '../src/i18n/i18n.js';
import { RelativeTime } from '../src/shell/relative-time.js';

// React reads these globals when it is imported.
await vi.hoisted(async () => {
  const { Window } = await import('happy-dom');
  const window = new Window();
  const { document, navigator, localStorage } = window;
  Object.assign(globalThis, { window, document, localStorage, IS_REACT_ACT_ENVIRONMENT: true });
  Object.defineProperty(globalThis, 'navigator', { value: navigator, configurable: true });
});

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
  await act(async () => {
    root.render(
      <I18nProvider>
        {times.map((at) => (
          <RelativeTime key={at} at={new Date(at).toISOString()} />
        ))}
      </I18nProvider>,
    );
    await Promise.resolve();
  });
}

const texts = (): (string | null)[] =>
  [...container.querySelectorAll('time')].map((each) => each.textContent);

it('relative times count seconds, then minutes', async () => {
  await render([now, now - 50_000]);
  expect(texts()).toEqual(['just now', '50 s ago']);
  act(() => void vi.advanceTimersByTime(12_000));
  expect(texts()).toEqual(['12 s ago', '1 min ago']);
  act(() => root.unmount());
});

it('all relative times of a page share one timer, which stops with the last of them', async () => {
  await render(Array.from({ length: 500 }, (_, index) => now - index * 1_000));
  expect(vi.getTimerCount()).toBe(1);
  act(() => root.unmount());
  expect(vi.getTimerCount()).toBe(0);
});
