/// <reference lib="dom" />
import type { Locator, Page } from 'playwright-core';
import { en } from '../../packages/console/src/i18n/en.js';
import type { Flag, Person } from './console-fixture.js';

/** The flag's row in the table. */
export function rowOf(page: Page, flag: Flag): Locator {
  return page.getByRole('row').filter({ hasText: flag.key });
}

/** The flag's switch in the table; with `checked` only in that state. */
export function switchOf(page: Page, flag: Flag, checked?: boolean): Locator {
  return page.getByRole('switch', {
    name: en.features.switchLabel(flag.name),
    exact: true,
    ...(checked === undefined ? {} : { checked }),
  });
}

/** The card of a user's change request. */
export function cardOf(page: Page, by: Person, flag: Flag): Locator {
  return page.getByRole('article', { name: en.approvals.cardLabel(by, flag.name), exact: true });
}

/** A button by its exact name. */
export function button(within: Page | Locator, name: string): Locator {
  return within.getByRole('button', { name, exact: true });
}

/** A text field by its label. */
export function field(within: Page | Locator, label: string): Locator {
  return within.getByRole('textbox', { name: label, exact: true });
}

/** Clicks a switch, whose input is hidden behind another element, when it is not locked. */
export async function flip(control: Locator): Promise<void> {
  await control.and(control.page().locator(':not([aria-disabled="true"])')).click({ force: true });
}

/** Goes to a path without loading the console again, which takes as long as most tests. */
export async function visit(page: Page, path: string): Promise<void> {
  await page.evaluate((to) => {
    history.pushState(null, '', to);
    dispatchEvent(new PopStateEvent('popstate'));
  }, path);
}

/** Waits until the page shows that it is live. */
export async function waitUntilLive(page: Page): Promise<void> {
  await button(page, en.freshness.chip(en.freshness.states.live)).waitFor();
}

/** Enters the reason that a guarded environment requires, and submits the request. */
export async function submitReason(page: Page, reason: string, submit = en.approvals.request): Promise<void> {
  const dialog = page.getByRole('dialog');
  await field(dialog, en.approvals.reason).fill(reason);
  await button(dialog, submit).click();
  await dialog.waitFor({ state: 'hidden' });
}

/** Approves the request of the card, and confirms it: the environment is guarded. */
export async function approve(card: Locator): Promise<void> {
  await button(card, en.approvals.approve).click();
  await button(card.page().getByRole('dialog'), en.approvals.approve).click();
}

/** Shows the card, also if it is new on a list that is not empty. */
export async function showCard(card: Locator): Promise<void> {
  const show = card.page().getByRole('button', { name: / new · Show$/ });
  await show.or(card).first().waitFor();
  if (await show.isVisible()) await show.click();
  await card.waitFor();
}
