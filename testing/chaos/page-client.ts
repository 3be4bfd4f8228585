import type { Browser, Page } from 'playwright-core';
import { launchChromium } from '../../e2e/console/chromium.js';
import type { TestChannel } from '../testkit/channel.ts';
import { pollUntil } from '../testkit/poll.ts';
import { withClient } from '../testkit/postgres.ts';

/** Time limit for the page to load, in milliseconds. */
const openLimitMs = 30_000;

/** Whether each flag is on, by the name on its switch. */
type Switches = Readonly<Record<string, boolean>>;

/** The console, in a real browser. */
export class PageClient {
  /** Uncaught errors of the page. */
  readonly violations: string[] = [];
  readonly #browser: Browser;
  readonly #page: Page;

  private constructor(browser: Browser, page: Page) {
    this.#browser = browser;
    this.#page = page;
    page.on('pageerror', (error) => this.violations.push(`an error in the page: ${error.message}`));
  }

  static async open(baseUrl: string, channel: TestChannel, token: string): Promise<PageClient> {
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

  /** Waits until the page shows the switches; false after the time limit. */
  async waitUntilShown(expected: Switches, limitMs: number): Promise<boolean> {
    const wanted = JSON.stringify(expected);
    return await pollUntil(limitMs, async () => JSON.stringify(await this.#read()) === wanted);
  }

  async close(): Promise<void> {
    await this.#browser.close();
  }

  async #read(): Promise<Switches> {
    // A string, because the types of this file lack the globals of the page.
    const switches: [string, boolean][] = await this.#page.evaluate(
      `[...document.querySelectorAll('[role=switch]')].map((each) => [each.getAttribute('aria-label') ?? '', each.checked ?? each.getAttribute('aria-checked') === 'true'])`,
    );
    return Object.fromEntries(switches.sort(([one], [other]) => (one < other ? -1 : 1)));
  }
}

/** Reads what the console must show of a channel: whether each flag is on, by the label of its switch. */
export async function readSwitches(databaseUrl: string, channel: TestChannel): Promise<Switches> {
  return await withClient(databaseUrl, async (client) => {
    const { rows } = await client.query<{ name: string; enabled: boolean }>(
      `SELECT 'Enable ' || f.name AS name, p.enabled FROM features f
       JOIN feature_params p ON p.feature_id = f.id AND p.environment_id = $2 WHERE f.project_id = $1`,
      [channel.projectId, channel.environmentId],
    );
    return Object.fromEntries(
      rows
        .map(({ name, enabled }) => [name, enabled] as const)
        .sort(([one], [other]) => (one < other ? -1 : 1)),
    );
  });
}
