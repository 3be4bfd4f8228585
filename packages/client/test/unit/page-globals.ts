import { onTestFinished, vi } from 'vitest';

/** The globals of a page that the client uses, until the end of the test: a whole DOM takes a second to load. */
export interface TestPage {
  readonly window: EventTarget;
  readonly document: EventTarget & { hidden: boolean };
}

export function openPage(): TestPage {
  const window = new EventTarget();
  const document = Object.assign(new EventTarget(), { hidden: false });
  document.addEventListener('visibilitychange', ({ type, bubbles }) => {
    if (bubbles) window.dispatchEvent(new Event(type));
  });
  vi.stubGlobal('addEventListener', window.addEventListener.bind(window));
  vi.stubGlobal('document', document);
  vi.stubGlobal('requestAnimationFrame', (run: () => void) => setTimeout(run, 16));
  onTestFinished(() => void vi.unstubAllGlobals());
  return { window, document };
}
