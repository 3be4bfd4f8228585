import { launchChromium } from '../../../e2e/console/chromium.js';

/** @import { Browser, Page } from 'playwright-core' */
/** @import { BoundedRun } from '../../testkit/bounded-run.ts' */

/** Time-out for a page to show a text, in milliseconds. */
const showTimeoutMs = 15_000;
/** Number of readings of a window's clock; the fastest one is the most accurate. */
const clockReadings = 50;

/**
 * The time at which a window showed a text, by this process's clock: `changedAtMs` in the DOM, `framedAtMs` after the frame
 * was drawn.
 *
 * @typedef {{ changedAtMs: number, framedAtMs: number }} Shown
 */

/**
 * A browser window that is observed. `awaitText`: resolves when the window shows the text; call it before that can happen.
 *
 * @typedef {{ readonly awaitText: (text: string) => Promise<Shown> }} ObservedWindow
 */

/**
 * Starts a Chromium, which the end of the run closes.
 *
 * @param {BoundedRun} run
 * @returns {Promise<Browser>}
 */
export async function startBrowser(run) {
  const browser = await launchChromium();
  let ending = false;
  browser.on('disconnected', () => {
    if (!ending) run.fail(new Error('The browser ended unexpectedly'));
  });
  run.defer(async () => {
    ending = true;
    await browser.close();
  });
  return browser;
}

/**
 * Opens a window with its own storage, prepares its page, and observes it.
 *
 * @param {BoundedRun} run
 * @param {Browser} browser
 * @param {string} name for errors
 * @param {(page: Page) => Promise<void>} prepare
 * @returns {Promise<ObservedWindow>}
 */
export async function openWindow(run, browser, name, prepare) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, locale: 'en-GB' });
  context.setDefaultTimeout(showTimeoutMs);
  const page = await context.newPage();
  page.on('pageerror', (error) =>
    run.fail(new Error(`The page "${name}" failed: ${error.stack ?? error.message}`)),
  );
  /** @type {Map<string, (shown: Shown) => void>} */
  const awaited = new Map();
  let offsetMs = 0;
  await page.exposeFunction(
    'reportShown',
    (/** @type {string} */ text, /** @type {number} */ changedAtMs, /** @type {number} */ framedAtMs) => {
      awaited.get(text)?.({ changedAtMs: changedAtMs - offsetMs, framedAtMs: framedAtMs - offsetMs });
    },
  );
  await prepare(page);
  offsetMs = await measureOffset(page);
  // A string, because the types of this file lack the globals of the page.
  await page.evaluate(`{
    const reported = new Set();
    const now = () => performance.timeOrigin + performance.now();
    new MutationObserver((mutations) => {
      const changedAtMs = now();
      for (const { target } of mutations) {
        for (const [text] of target.textContent.matchAll(/change-\\d+/g)) {
          if (reported.has(text)) continue;
          reported.add(text);
          // A task after the animation frame callbacks runs after the frame is drawn.
          requestAnimationFrame(() => setTimeout(() => reportShown(text, changedAtMs, now())));
        }
      }
    }).observe(document.body, { subtree: true, childList: true, characterData: true });
  }`);
  return {
    awaitText: async (text) => {
      const limit = setTimeout(() => {
        run.fail(new Error(`The page "${name}" did not show "${text}" within ${showTimeoutMs / 1_000} s`));
      }, showTimeoutMs);
      try {
        return await new Promise((resolve) => awaited.set(text, resolve));
      } finally {
        clearTimeout(limit);
        awaited.delete(text);
      }
    },
  };
}

/** This process's clock, in milliseconds since the epoch, with fractions. */
export function nowMs() {
  return performance.timeOrigin + performance.now();
}

/**
 * Returns how far the page's clock is ahead of this process's clock, in milliseconds: both start from the system clock and
 * then run independently.
 *
 * @param {Page} page
 */
async function measureOffset(page) {
  let fastestMs = Infinity;
  let offsetMs = 0;
  for (let reading = 0; reading < clockReadings; reading += 1) {
    const sentAtMs = nowMs();
    /** @type {number} */
    const pageMs = await page.evaluate('performance.timeOrigin + performance.now()');
    const receivedAtMs = nowMs();
    if (receivedAtMs - sentAtMs >= fastestMs) continue;
    fastestMs = receivedAtMs - sentAtMs;
    offsetMs = pageMs - (sentAtMs + receivedAtMs) / 2;
  }
  return offsetMs;
}
