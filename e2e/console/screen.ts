import type { Locator, Page } from 'playwright-core';
import { en } from '../../packages/console/src/texts/en.js';
import type { Flag, Person } from './stage.js';

/** The flag's line in the table. */
export function rowOf(page: Page, flag: Flag): Locator {
  return page.getByRole('row').filter({ hasText: flag.key });
}

/** The flag's switch in the table; `checked` where it has to be on, or off. */
export function switchOf(page: Page, flag: Flag, checked?: boolean): Locator {
  return page.getByRole('switch', {
    name: en.features.switchLabel(flag.name),
    exact: true,
    ...(checked === undefined ? {} : { checked }),
  });
}

/** The card of what somebody asks for. */
export function cardOf(page: Page, by: Person, flag: Flag): Locator {
  return page.getByRole('article', { name: en.approvals.cardLabel(by, flag.name), exact: true });
}

/** A button by its whole name. */
export function button(within: Page | Locator, name: string): Locator {
  return within.getByRole('button', { name, exact: true });
}

/** A text field by its label. */
export function field(within: Page | Locator, label: string): Locator {
  return within.getByRole('textbox', { name: label, exact: true });
}

/** Clicks a switch where a person would: on what is drawn in its place. */
export async function flip(control: Locator): Promise<void> {
  await control.click({ force: true });
}

/** Waits until the page says that it is live. */
export async function isLive(page: Page): Promise<void> {
  await button(page, en.freshness.chip(en.freshness.live)).waitFor();
}

/** Fills in the reason that a guarded environment asks for, and sends the request. */
export async function giveReason(page: Page, reason: string, submit = en.approvals.request): Promise<void> {
  const dialog = page.getByRole('dialog');
  await field(dialog, en.approvals.reason).fill(reason);
  await button(dialog, submit).click();
  await dialog.waitFor({ state: 'hidden' });
}
