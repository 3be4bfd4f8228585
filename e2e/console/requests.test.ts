import { expect, it } from 'vitest';
import { en } from '../../packages/console/src/i18n/en.js';
import { at, type Flag, type Person, useConsoleFixture, webShop } from './console-fixture.js';
import { button, cardOf, showCard, waitUntilLive } from './screen.js';

const context = useConsoleFixture();
const approvals = at(webShop, 'dev', 'approvals');

/** Requests that the flag is switched on in prod; resolves with the id of the request. */
async function request(person: Person, flag: Flag): Promise<string> {
  const { pending_change: change } = (await context.fixture.change(person, flag, 'prod', {
    enabled: true,
    reason: 'The launch is today',
  })) as { pending_change: { id: string } };
  return change.id;
}

it('a click meant for one request never decides another one that arrives between pointer-down and up', async () => {
  const { fixture } = context;
  const [flag, other] = [await fixture.addFlag(), await fixture.addFlag()];
  await request('bob', flag);
  const { page } = await fixture.open('alice', approvals);
  await waitUntilLive(page);
  const approve = button(cardOf(page, 'bob', flag), en.approvals.approve);
  await approve.hover();
  const before = await cardOf(page, 'bob', flag).boundingBox();
  await page.mouse.down();
  await request('bob', other);
  await button(page, en.approvals.showNew(1)).waitFor();
  expect(await cardOf(page, 'bob', flag).boundingBox()).toEqual(before);
  await page.mouse.up();
  const dialog = page.getByRole('dialog');
  await dialog.getByText(en.approvals.confirm(flag.name, 'Web shop', 'Production')).waitFor();
  await page.keyboard.press('Escape');
  await showCard(cardOf(page, 'bob', other));
});

it('a requester who comes back after the log has forgotten finds the decision with its reason, and who has cancelled a request', async () => {
  const { fixture } = context;
  const { pool } = fixture.database;
  const [seen, flag, other] = [await fixture.addFlag(), await fixture.addFlag(), await fixture.addFlag()];
  await fixture.decide('root', await request('bob', seen), 'reject', { reason: 'Not on Fridays' });
  const id = await request('bob', flag);
  const bob = await fixture.open('bob', approvals);
  await bob.page.getByRole('button', { name: /^For you/ }).click();
  await bob.page
    .getByRole('dialog', { name: en.approvals.bell(0) })
    .getByText('Not on Fridays')
    .waitFor();
  await button(bob.page, en.approvals.bell(0)).waitFor();
  await bob.page.goto('/healthz');
  await fixture.decide('root', id, 'reject', { reason: 'Not before Monday' });
  await pool.query(`UPDATE flagcast.event_log SET logged_at = now() - interval '8 days'`);
  await pool.query(`SELECT flagcast.prune_event_log('7 days', 100000)`);
  await bob.page.goto(at(webShop, 'dev', 'features'));
  await button(bob.page, en.approvals.bell(1)).click();
  const decision = bob.page.getByRole('listitem').filter({ hasText: flag.name });
  await decision.getByText('Not before Monday').waitFor();
  await decision.getByRole('link').click();
  await bob.page.getByRole('region', { name: en.feature.history }).getByText('Not before Monday').waitFor();

  // While the page is open, and after a reload.
  await fixture.decide('root', await request('bob', other), 'cancel');
  const cancelled = bob.page.getByText(`${other.name}: ${en.approvals.decided.cancelled('root')}`);
  await bob.page.getByRole('button', { name: /^For you/ }).click();
  await cancelled.waitFor();
  await button(bob.page, en.approvals.bell(0)).waitFor();
  await bob.page.reload();
  await button(bob.page, en.approvals.bell(0)).click();
  await cancelled.waitFor();
});
