import type { Page } from 'playwright-core';
import { expect, it, onTestFinished } from 'vitest';
import { en } from '../../packages/console/src/i18n/en.js';
import { FaultyProxy } from '../../testing/testkit/faulty-proxy.ts';
import { button, field, visit, waitUntilLive } from './screen.js';
import { pageOf, useConsoleFixture } from './console-fixture.js';

const context = useConsoleFixture();
const { presence } = en;
const value = en.feature.valueIn('Development');

/** Waits until the page names exactly these people. */
async function expectPeople(page: Page, ...texts: string[]): Promise<void> {
  await expect
    .poll(async () => await page.locator('.fc-presence').allInnerTexts())
    .toEqual(texts.length === 0 ? [] : [expect.stringContaining(texts.join(' · '))]);
}

it('two people on a flag or a request see each other, and which field the other edits, until they leave', async () => {
  const { fixture } = context;
  const flag = await fixture.addFlag();
  const alice = await fixture.open('alice', pageOf(flag, 'dev'));
  const bob = await fixture.open('bob', pageOf(flag, 'dev'));
  await expectPeople(alice.page, presence.viewing('bob'));
  await expectPeople(bob.page, presence.viewing('alice'));

  // A second tab of the same person, whose connection is that of the first one.
  const tab = await alice.openTab(pageOf(flag, 'dev'));
  await expectPeople(tab, presence.viewing('bob'));
  await field(tab, value).focus();
  await expectPeople(bob.page, presence.editingField('alice', en.fields.default_value));
  const edited = bob.page.locator('.fc-field').filter({ hasText: value });
  await edited.getByText(presence.editing('alice')).waitFor();
  await expectPeople(alice.page, presence.viewing('bob'));
  await fixture.takePictures('presence');

  // A field with a change counts as edited without the focus.
  await field(tab, en.fields.name).fill('Renamed');
  await tab.getByRole('heading', { level: 1 }).click();
  await expectPeople(bob.page, presence.editingField('alice', en.fields.name));
  await button(tab, en.feature.discard).click();
  await expectPeople(bob.page, presence.viewing('alice'));
  await tab.close();
  await alice.page.getByRole('link', { name: en.feature.back }).click();
  await expectPeople(bob.page);

  await fixture.change('bob', flag, 'prod', { enabled: true, reason: 'For a test' });
  const { rows } = await fixture.database.pool.query<{ id: string }>(
    'SELECT pending_change_id AS id FROM pending_change_entities WHERE entity_id = $1',
    [flag.id],
  );
  for (const { page } of [alice, bob]) await visit(page, `/approvals/${rows[0]?.id ?? ''}`);
  await expectPeople(alice.page, presence.viewing('bob'));
  await expectPeople(bob.page, presence.viewing('alice'));
});

it('a person whose connection goes silent disappears, and appears again when it is back', async () => {
  const { fixture } = context;
  const flag = await fixture.addFlag();
  const proxy = await FaultyProxy.open([Number(new URL(fixture.server.httpUrl).port)]);
  onTestFinished(async () => await proxy.close());
  const alice = await fixture.open('alice', pageOf(flag, 'dev'));
  const bob = await fixture.open('bob', `${proxy.url}${pageOf(flag, 'dev')}`);
  bob.expectProblem(({ url }) => url.startsWith(proxy.url));
  await waitUntilLive(bob.page);
  await expectPeople(alice.page, presence.viewing('bob'));
  proxy.inject('blackhole');
  await expectPeople(alice.page);
  // The new connection is not blackholed.
  await bob.page.evaluate("dispatchEvent(new Event('offline')); dispatchEvent(new Event('online'))");
  await expectPeople(alice.page, presence.viewing('bob'));
  await expectPeople(bob.page, presence.viewing('alice'));
});
