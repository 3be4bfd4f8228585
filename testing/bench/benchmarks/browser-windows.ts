import { EventEmitter, once } from 'node:events';
import type { Browser, Page } from 'playwright-core';
import { launchChromium } from '../../../e2e/console/chromium.js';
import type { BoundedRun } from '../../testkit/bounded-run.ts';
import { nowMs } from '../../testkit/child.ts';

/** Time-out for a page to show a text, in milliseconds. */
const showTimeoutMs = 15_000;
/** Number of readings of a window's clock; the fastest one is the most accurate. */
const clockReadings = 50;

/** Starts a Chromium, which the end of the run closes. */
export async function startBrowser(run: BoundedRun): Promise<Browser> {
  const browser = await launchChromium();
  const onDisconnect = () => run.fail(new Error('The browser ended unexpectedly'));
  browser.on('disconnected', onDisconnect);
  run.defer(async () => {
    browser.off('disconnected', onDisconnect);
    await browser.close();
  });
  return browser;
}

/** When a window showed a text, by this process's clock. */
interface Shown {
  /** The DOM had changed. */
  readonly changedAtMs: number;
  readonly drawnAtMs: number;
}

/** A browser window that reports the texts that it shows. */
export class ObservedWindow {
  readonly #shown = new EventEmitter();

  /** Opens a window with its own storage, prepares its page, and observes it. `texts` is global. */
  static async open(
    run: BoundedRun,
    browser: Browser,
    texts: RegExp,
    prepare: (page: Page) => Promise<void>,
  ): Promise<ObservedWindow> {
    const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, locale: 'en-GB' });
    context.setDefaultTimeout(showTimeoutMs);
    const page = await context.newPage();
    page.on('pageerror', (error) => run.fail(error));
    const window = new ObservedWindow();
    let offsetMs = 0;
    await page.exposeFunction('reportShown', (text: string, changedAtMs: number, drawnAtMs: number) => {
      window.#shown.emit(text, { changedAtMs: changedAtMs - offsetMs, drawnAtMs: drawnAtMs - offsetMs });
    });
    await prepare(page);
    offsetMs = await measureOffset(page);
    // A string, because the types of this file lack the globals of the page.
    await page.evaluate(`{
      const reported = new Set();
      const now = () => performance.timeOrigin + performance.now();
      new MutationObserver((mutations) => {
        const changedAtMs = now();
        for (const { target } of mutations) {
          for (const [text] of target.textContent.matchAll(${texts})) {
            if (reported.has(text)) continue;
            reported.add(text);
            // A task after the animation frame callbacks runs after the frame is drawn.
            requestAnimationFrame(() => setTimeout(() => reportShown(text, changedAtMs, now())));
          }
        }
      }).observe(document.body, { subtree: true, childList: true, characterData: true });
    }`);
    return window;
  }

  /** Resolves when the window shows the text. Call it before that can happen. */
  async awaitText(text: string): Promise<Shown> {
    const [shown] = (await once(this.#shown, text, { signal: AbortSignal.timeout(showTimeoutMs) })) as [
      Shown,
    ];
    return shown;
  }
}

/**
 * Returns how far the page's clock is ahead of this process's clock, in milliseconds: both start from the system clock and
 * then run independently.
 */
async function measureOffset(page: Page): Promise<number> {
  let fastestMs = Infinity;
  let offsetMs = 0;
  for (let reading = 0; reading < clockReadings; reading += 1) {
    const sentAtMs = nowMs();
    const pageMs = await page.evaluate<number>('performance.timeOrigin + performance.now()');
    const receivedAtMs = nowMs();
    if (receivedAtMs - sentAtMs >= fastestMs) continue;
    fastestMs = receivedAtMs - sentAtMs;
    offsetMs = pageMs - (sentAtMs + receivedAtMs) / 2;
  }
  return offsetMs;
}
