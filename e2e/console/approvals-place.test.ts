import type { Page } from 'playwright-core';
import { expect, it } from 'vitest';
import { en } from '../../packages/console/src/i18n/en.js';
import { at, type Flag, pageOf, useConsoleFixture, webShop } from './console-fixture.js';
import { waitUntilLive, visit } from './screen.js';

const context = useConsoleFixture();

/** Requests that the flag is switched on in prod; resolves with the id of the request. */
async function request(flag: Flag): Promise<string> {
  const change = { enabled: true, reason: 'The launch is today' };
  const answer = await context.fixture.change('root', flag, 'prod', change);
  return (answer['pending_change'] as { id: string }).id;
}

const cards = (page: Page) => page.getByRole('article');

it('the requests can be limited to the project or the environment of the header, in the address', async () => {
  const { fixture } = context;
  const flag = await fixture.addFlag();
  await request(flag);
  const { page } = await fixture.open('alice', at(webShop, 'dev', 'approvals'));
  await waitUntilLive(page);
  const card = cards(page).filter({ hasText: flag.name });
  await card.waitFor();
  const elsewhere = cards(page).filter({ hasNotText: 'Web shop /' });
  await elsewhere.first().waitFor();
  const choose = async (place: string): Promise<void> => {
    await page.getByRole('combobox', { name: en.activity.scopeFilter }).click();
    await page.getByRole('option', { name: place, exact: true }).click();
  };
  await choose('Web shop');
  await expect.poll(async () => await elsewhere.count()).toBe(0);
  await card.waitFor();
  await page.getByText(en.approvals.count(await cards(page).count(), 'Web shop')).waitFor();
  await expect.poll(() => new URL(page.url()).search).toBe('?in=project');
  await choose('Web shop / dev');
  await page.getByText(en.approvals.noMatch).waitFor();
  await page.getByText(en.approvals.decidedFilter, { exact: true }).click();
  await page.getByText(en.approvals.noDecided).waitFor();
  await expect.poll(() => new URL(page.url()).search).toBe('?in=environment&show=decided');
  await visit(page, at(webShop, 'prod', 'approvals?in=environment'));
  await card.waitFor();
});

it('a decided request is not called pending on the page of its flag', async () => {
  const { fixture } = context;
  const flag = await fixture.addFlag();
  const id = await request(flag);
  const { page } = await fixture.open('bob', pageOf(flag, 'prod'));
  await waitUntilLive(page);
  const title = cards(page).getByRole('heading', { level: 2 });
  await title.getByText(en.approvals.pendingRequest).waitFor();
  await fixture.decide('alice', id, 'reject', { reason: 'Not on Fridays' });
  await cards(page).getByText(en.approvals.decided.rejected('alice')).waitFor();
  expect(await title.textContent()).toBe(en.approvals.requestPage);
  expect(await cards(page).getByRole('button').count()).toBe(0);
});

it('a decision that was made while another page was open is in the list of decided requests', async () => {
  const { fixture } = context;
  const [before, meanwhile] = [await fixture.addFlag(), await fixture.addFlag()];
  await fixture.decide('alice', await request(before), 'reject', { reason: 'First' });
  const { page } = await fixture.open('alice', at(webShop, 'prod', 'approvals?show=decided'));
  await waitUntilLive(page);
  await cards(page).filter({ hasText: before.name }).waitFor();
  await page.getByRole('link', { name: en.shell.features }).click();
  await fixture.decide('alice', await request(meanwhile), 'reject', { reason: 'Second' });
  await page.getByRole('link', { name: meanwhile.name }).first().waitFor();
  await page.goBack();
  await cards(page).filter({ hasText: meanwhile.name }).waitFor();
  await cards(page).filter({ hasText: before.name }).waitFor();
});
