import { setTimeout as delay } from 'node:timers/promises';
import { launchChromium } from '../../../e2e/console/chromium.js';

/** @import { Browser, Page } from 'playwright-core' */
/** @import { ChaosChannel } from '../writers.js' */

/** Time limit for the page to load, in milliseconds. */
const openLimitMs = 30_000;
const pollIntervalMs = 250;

/** @typedef {Readonly<Record<string, boolean>>} Switches whether each flag is on, by the name on its switch */

/** The console, in a real browser. */
export class PageClient {
  /** @type {string[]} uncaught errors of the page */
  violations = [];
  #browser;
  #page;

  /**
   * @param {Browser} browser
   * @param {Page} page
   */
  constructor(browser, page) {
    this.#browser = browser;
    this.#page = page;
    page.on('pageerror', (error) => this.violations.push(`an error in the page: ${error.message}`));
  }

  /**
   * @param {string} baseUrl
   * @param {ChaosChannel} channel
   * @param {string} token
   */
  static async open(baseUrl, channel, token) {
    const browser = await launchChromium();
    try {
      // High enough that every row of the table is drawn.
      const context = await browser.newContext({ viewport: { width: 1280, height: 8_000 }, locale: 'en-GB' });
      context.setDefaultTimeout(openLimitMs);
      await context.addInitScript(`sessionStorage.setItem('flagcast.token', '${token}')`);
      const page = await context.newPage();
      const client = new PageClient(browser, page);
      await page.goto(`${baseUrl}/p/${channel.projectId}/${channel.env}/features`);
      // The input is hidden behind another element, so it never becomes visible.
      await page.getByRole('switch').first().waitFor({ state: 'attached' });
      return client;
    } catch (error) {
      await browser.close();
      throw error;
    }
  }

  /**
   * Waits until the page shows the switches; false after the time limit.
   *
   * @param {Switches} expected
   * @param {number} limitMs
   */
  async waitUntilShown(expected, limitMs) {
    const wanted = JSON.stringify(expected);
    for (const endMs = performance.now() + limitMs; performance.now() < endMs;) {
      if (JSON.stringify(await this.#read()) === wanted) return true;
      await delay(pollIntervalMs);
    }
    return false;
  }

  async close() {
    await this.#browser.close();
  }

  /** @returns {Promise<Switches>} */
  async #read() {
    // A string, because the types of this file lack the globals of the page.
    /** @type {[string, boolean][]} */
    const switches = await this.#page.evaluate(
      `[...document.querySelectorAll('[role=switch]')].map((each) => [each.getAttribute('aria-label') ?? '', each.checked ?? each.getAttribute('aria-checked') === 'true'])`,
    );
    return Object.fromEntries(switches.sort(([one], [other]) => (one < other ? -1 : 1)));
  }
}
