import { launchChromium } from '../../e2e/console/chromium.js';

/** @import { Browser, Page } from 'playwright-core' */
/** @import { BoundedRun } from '../bounded-run.js' */

/** How long a page may take to show what it is waited for, in milliseconds. */
const showLimitMs = 15_000;
/** How often a window's clock is read to compare it with ours: the quickest answer tells most. */
const clockReadings = 50;

/**
 * When a window showed a text, in milliseconds of this process's clock: `changedAtMs` when the page's
 * document had it, `framedAtMs` when the frame with it had been drawn.
 *
 * @typedef {{ changedAtMs: number, framedAtMs: number }} Shown
 */

/**
 * A window of the browser that tells when it shows a text. `awaitText` is to be called before that can
 * happen.
 *
 * @typedef {{ readonly awaitText: (text: string) => Promise<Shown> }} WatchingWindow
 */

/**
 * A Chromium that goes when the run ends.
 *
 * @param {BoundedRun} run
 * @returns {Promise<Browser>}
 */
export async function startBrowser(run) {
  const browser = await launchChromium();
  let ending = false;
  browser.on('disconnected', () => {
    if (!ending) run.fail(new Error('The browser ended by itself'));
  });
  run.defer(async () => {
    ending = true;
    await browser.close();
  });
  return browser;
}

/**
 * Opens a window of its own storage, prepares its page, and watches it from then on.
 *
 * @param {BoundedRun} run
 * @param {Browser} browser
 * @param {string} name for errors
 * @param {(page: Page) => Promise<void>} prepare
 * @returns {Promise<WatchingWindow>}
 */
export async function openWindow(run, browser, name, prepare) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, locale: 'en-GB' });
  context.setDefaultTimeout(showLimitMs);
  const page = await context.newPage();
  page.on('pageerror', (error) =>
    run.fail(new Error(`The page "${name}" failed: ${error.stack ?? error.message}`)),
  );
  /** @type {Map<string, (shown: Shown) => void>} */
  const awaited = new Map();
  let offsetMs = 0;
  await page.exposeFunction(
    'tellShown',
    (/** @type {string} */ text, /** @type {number} */ changedAtMs, /** @type {number} */ framedAtMs) => {
      awaited.get(text)?.({ changedAtMs: changedAtMs - offsetMs, framedAtMs: framedAtMs - offsetMs });
    },
  );
  await prepare(page);
  offsetMs = await measureOffset(page);
  // A text, because what runs in the page knows other globals than what runs here.
  await page.evaluate(`{
    const told = new Set();
    const now = () => performance.timeOrigin + performance.now();
    new MutationObserver((mutations) => {
      const changedAtMs = now();
      for (const { target } of mutations) {
        for (const [text] of target.textContent.matchAll(/change-\\d+/g)) {
          if (told.has(text)) continue;
          told.add(text);
          // A task that follows the frame's callbacks comes after the frame has been drawn.
          requestAnimationFrame(() => setTimeout(() => tellShown(text, changedAtMs, now())));
        }
      }
    }).observe(document.body, { subtree: true, childList: true, characterData: true });
  }`);
  return {
    awaitText: async (text) => {
      const limit = setTimeout(() => {
        run.fail(new Error(`The page "${name}" did not show "${text}" within ${showLimitMs / 1_000} s`));
      }, showLimitMs);
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
 * How far the page's clock is ahead of ours: both begin with the machine's clock and then count by
 * themselves.
 *
 * @param {Page} page
 */
async function measureOffset(page) {
  let least = Infinity;
  let offsetMs = 0;
  for (let reading = 0; reading < clockReadings; reading += 1) {
    const askedAtMs = nowMs();
    /** @type {number} */
    const pageMs = await page.evaluate('performance.timeOrigin + performance.now()');
    const answeredAtMs = nowMs();
    if (answeredAtMs - askedAtMs >= least) continue;
    least = answeredAtMs - askedAtMs;
    offsetMs = pageMs - (askedAtMs + answeredAtMs) / 2;
  }
  return offsetMs;
}
