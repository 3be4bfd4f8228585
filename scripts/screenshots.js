// npm run screenshots: takes screenshots of each page of the console in both themes and on a phone, into docs/screenshots.
// It starts the demo, simulates activity, and removes everything afterwards.
import { mkdir, writeFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { launchChromium } from '../e2e/console/chromium.js';
import { DemoServer } from './screenshots/demo-server.js';
import { simulateActivity, shop, requestedFlag } from './screenshots/demo-activity.js';

const folder = fileURLToPath(new URL('../docs/screenshots/', import.meta.url));

/** The folder in which e2e/console/chromium.js stores the browser. */
const cache = fileURLToPath(new URL('../node_modules/.cache/', import.meta.url));

const screens = {
  light: { viewport: { width: 1280, height: 800 }, colorScheme: /** @type {const} */ ('light') },
  dark: { viewport: { width: 1280, height: 800 }, colorScheme: /** @type {const} */ ('dark') },
  phone: {
    viewport: { width: 390, height: 844 },
    colorScheme: /** @type {const} */ ('light'),
    isMobile: true,
    hasTouch: true,
  },
};

/** The font of the tests' browser, so that the screenshots are the same on all machines. */
const font =
  ':root, :host { --mantine-font-family: "Open Sans" !important; --mantine-font-family-headings: "Open Sans" !important; }';

/** @typedef {import('playwright-core').Page} Page */

/**
 * @param {DemoServer} demo
 * @param {(page: Page, name: string) => Promise<void>} shoot
 * @param {(username: string | null, path: string) => Promise<Page>} open
 */
async function takePictures(demo, shoot, open) {
  const at = (/** @type {string} */ env, /** @type {string} */ page) => `/p/${shop}/${env}/${page}`;
  const flag = async (/** @type {string} */ env, /** @type {string} */ key) => {
    const found = (await demo.features(shop, env)).find((each) => each.key === key);
    return at(env, `features/${found?.id ?? ''}`);
  };

  const signIn = await open(null, '/');
  await signIn.getByText('alice', { exact: true }).waitFor();
  await shoot(signIn, 'sign-in');

  const approvals = await open('alice', at('prod', 'approvals'));
  await approvals.locator('article').first().waitFor();
  await shoot(approvals, 'approvals');

  const activity = await open('alice', at('stage', 'activity'));
  await activity.locator('.fc-entry').first().waitFor();
  await shoot(activity, 'activity');

  const waiting = await open('alice', await flag('prod', requestedFlag));
  await waiting.locator('.fc-entry').first().waitFor();
  await waiting.locator('article').waitFor();
  await shoot(waiting, 'flag');

  const edited = await open('alice', await flag('dev', 'free-shipping-threshold'));
  const editor = await open('root', await flag('dev', 'free-shipping-threshold'));
  await editor.getByLabel('Description').fill('From which basket value shipping is free');
  await edited.getByText('root is editing').first().waitFor();
  await shoot(edited, 'presence');
  await editor.close();

  const differs = await open('alice', at('prod', 'features?columns=value.tags.changed&env=dev&env=stage'));
  await differs.locator('.fc-row [data-row-link]').first().waitFor();
  await shoot(differs, 'environments');

  const conflict = await open('alice', await flag('stage', 'cookie-banner'));
  await conflict.getByLabel('Description').fill('The banner of each country');
  await demo.change('root', shop, 'stage', 'cookie-banner', ({ enabled }) => ({
    // Differs from what the previous screen size has left.
    description: enabled ? 'Asks before the first cookie' : 'Asks before any cookie',
    enabled: !enabled,
  }));
  await conflict.getByRole('button', { name: 'Use theirs' }).waitFor();
  await shoot(conflict, 'conflict');

  const freshness = await open('alice', at('dev', 'features'));
  await freshness.locator('.fc-row [data-row-link]').first().waitFor();
  await freshness.locator('.fc-freshness[data-state=live]').click();
  const keys = (await demo.features(shop, 'dev')).map(({ key }) => key);
  for (const key of [...keys, ...keys]) {
    await demo.change('bob', shop, 'dev', key, ({ enabled }) => ({ enabled: !enabled }));
  }
  await freshness.locator('.fc-numbers tbody tr').nth(19).waitFor();
  await shoot(freshness, 'freshness');

  const flags = await open('alice', at('prod', 'features'));
  await flags.locator('.fc-row [data-row-link]').first().waitFor();
  await demo.change('root', shop, 'prod', 'dark-theme', ({ enabled }) => ({
    enabled: !enabled,
    reason: 'Reported by support',
  }));
  await flags.locator('.fc-flash').waitFor();
  await shoot(flags, 'flags');
  // Restores the state for the next screen size.
  await demo.cancelRequests(({ requested_by: person }) => person === 'root');

  const stale = await open('alice', at('prod', 'features'));
  await stale.locator('.fc-freshness[data-state=live]').waitFor();
  await stale.context().setOffline(true);
  await stale.locator('.fc-freshness[data-state=stale]').waitFor();
  await shoot(stale, 'stale');
}

/**
 * Adds that font to the fonts of the machine.
 * @param {string} file
 */
async function provideFont(file) {
  await writeFile(
    file,
    `<?xml version="1.0"?><!DOCTYPE fontconfig SYSTEM "fonts.dtd"><fontconfig>
      <include ignore_missing="yes">/etc/fonts/fonts.conf</include><dir>${cache}</dir></fontconfig>`,
  );
  process.env['FONTCONFIG_FILE'] = file;
}

await mkdir(folder, { recursive: true });
await mkdir(cache, { recursive: true });
await provideFont(`${cache}fonts.conf`);
const demo = await DemoServer.start();
try {
  await simulateActivity(demo);
  for (const [screen, options] of Object.entries(screens)) {
    const browser = await launchChromium();
    try {
      const context = await browser.newContext({ ...options, locale: 'en-GB', baseURL: demo.url });
      await takePictures(
        demo,
        async (page, name) => {
          await page.addStyleTag({ content: font });
          await page.waitForLoadState('networkidle');
          await page.screenshot({ path: `${folder}${name}-${screen}.png` });
          console.log(`docs/screenshots/${name}-${screen}.png`);
          await page.goto('about:blank');
        },
        async (username, path) => {
          const page = await context.newPage();
          if (username !== null) {
            const token = await demo.signIn(username);
            await page.addInitScript((kept) => sessionStorage.setItem('flagcast.token', kept), token);
          }
          await page.goto(path);
          return page;
        },
      );
    } finally {
      await browser.close();
    }
  }
} finally {
  await demo.remove();
}
