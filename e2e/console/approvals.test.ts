import { expect, it } from 'vitest';
import { en } from '../../packages/console/src/i18n/en.js';
import { whileLocked } from '../../packages/server/test/rest-fixture.js';
import { button, cardOf, field, flip, submitReason, waitUntilLive, rowOf, switchOf } from './screen.js';
import {
  at,
  billing,
  type Flag,
  listOf,
  pageOf,
  type Person,
  useConsoleFixture,
  webShop,
} from './console-fixture.js';

const context = useConsoleFixture();

/** Requests that the flag is switched on in prod. */
async function request(person: Person, flag: Flag): Promise<string> {
  const { pending_change: change } = (await context.fixture.change(person, flag, 'prod', {
    enabled: true,
    reason: 'The launch is today',
  })) as { pending_change: { id: string } };
  return change.id;
}

it('a request and its approval show in all windows, and the approval applies the change', async () => {
  const { fixture } = context;
  const flag = await fixture.addFlag();
  const bob = await fixture.open('bob', listOf(flag, 'prod'));
  const alice = await fixture.open('alice', at(webShop, 'dev', 'approvals'));
  const root = await fixture.open('root', listOf(flag, 'prod'));
  await waitUntilLive(alice.page);
  await waitUntilLive(root.page);

  await flip(switchOf(bob.page, flag, false));
  await submitReason(bob.page, 'The launch is today');
  await rowOf(root.page, flag).getByText(en.features.pendingBy('bob')).waitFor();
  await switchOf(root.page, flag, false).waitFor();

  const card = cardOf(alice.page, 'bob', flag);
  await card.getByText('The launch is today').waitFor();
  await button(card, en.approvals.approve).click();

  await switchOf(bob.page, flag, true).waitFor();
  await rowOf(bob.page, flag).getByText(en.features.pendingBy('bob')).waitFor({ state: 'hidden' });
  await switchOf(root.page, flag, true).waitFor();
  await card.getByText(en.approvals.decided.approved('alice')).waitFor();
});

it('a rejection shows to the requester with its reason, and changes nothing', async () => {
  const { fixture } = context;
  const flag = await fixture.addFlag();
  await request('bob', flag);
  const bob = await fixture.open('bob', pageOf(flag, 'prod'));
  const alice = await fixture.open('alice', at(webShop, 'prod', 'approvals'));
  await waitUntilLive(bob.page);
  await bob.page.getByRole('article').getByText('The launch is today').waitFor();

  const card = cardOf(alice.page, 'bob', flag);
  await button(card, en.approvals.reject).click();
  const dialog = alice.page.getByRole('dialog', { name: en.approvals.rejectTitle });
  expect(await button(dialog, en.approvals.reject).isDisabled()).toBe(true);
  await submitReason(alice.page, 'Not before Monday', en.approvals.reject);

  await bob.page.getByRole('article').getByText(en.approvals.decided.rejected('alice')).waitFor();
  const settings = bob.page.getByRole('form', { name: en.feature.details });
  await settings.getByRole('switch', { checked: false }).waitFor();
  await card.getByText(en.approvals.decided.rejected('alice')).waitFor();
});

it('a cancelled request disables the buttons of its approver', async () => {
  const { fixture } = context;
  const flag = await fixture.addFlag();
  await request('bob', flag);
  const bob = await fixture.open('bob', pageOf(flag, 'prod'));
  const alice = await fixture.open('alice', at(webShop, 'dev', 'approvals'));
  await waitUntilLive(alice.page);
  const card = cardOf(alice.page, 'bob', flag);
  const approve = button(card, en.approvals.approve);
  await approve.waitFor();
  expect(await approve.isEnabled()).toBe(true);

  await button(bob.page, en.approvals.cancel).click();
  await card.getByText(/^Cancelled/).waitFor();
  await expect.poll(async () => (await approve.count()) === 0 || (await approve.isDisabled())).toBe(true);
  await bob.page
    .getByRole('article')
    .getByText(/^Cancelled/)
    .waitFor();
});

it('a decision of another user shows with its author, and disables the buttons', async () => {
  const { fixture } = context;
  const flag = await fixture.addFlag();
  const id = await request('bob', flag);
  const alice = await fixture.open('alice', at(webShop, 'stage', 'approvals'));
  await waitUntilLive(alice.page);
  const card = cardOf(alice.page, 'bob', flag);
  await button(card, en.approvals.reject).click();
  await alice.page.getByRole('dialog', { name: en.approvals.rejectTitle }).waitFor();
  await fixture.request('root', 'POST', `/api/pending-changes/${id}/approve`);
  // The dialog closes, because the request can no longer be rejected.
  await alice.page.getByRole('dialog').waitFor({ state: 'hidden' });
  await card.getByText(en.approvals.decided.approved('root')).waitFor();
  for (const name of [en.approvals.approve, en.approvals.reject]) {
    const stale = button(card, name);
    expect((await stale.count()) === 0 || (await stale.isDisabled())).toBe(true);
  }
});

it('an edited request stays open, and its edits are in the activity', async () => {
  const { fixture } = context;
  const flag = await fixture.addFlag();
  const id = await request('bob', flag);
  const alice = await fixture.open('alice', at(webShop, 'prod', 'activity'), { injectsMessages: true });
  const { page } = alice;
  await waitUntilLive(page);
  const { rows } = await fixture.database.pool.query<{ id: string }>(
    `SELECT id::text AS id FROM environments WHERE project_id = $1 AND key = 'prod'`,
    [webShop],
  );
  for (const eventId of ['9000000001', '9000000002']) {
    const now = new Date().toISOString();
    alice.injectMessage({
      source: 'pending',
      type: 'pending_change_updated',
      timestamp: now,
      project_id: webShop,
      environment: 'prod',
      environment_id: rows[0]?.id ?? '',
      row_id: id,
      entity: 'feature',
      entity_id: flag.id,
      action: 'updated',
      id: eventId,
      feature_id: flag.id,
      pending_change_id: id,
      actor: 'bob',
      committed_at: null,
      seen_at: now,
      feature_unreadable: true,
    });
  }
  const edits = page.getByRole('listitem').filter({ hasText: en.actions.request_updated });
  await expect.poll(async () => await edits.count()).toBe(2);
  await page.getByRole('link', { name: en.shell.approvals }).first().click();
  const approve = button(cardOf(page, 'bob', flag), en.approvals.approve);
  await approve.waitFor();
  expect(await approve.isEnabled()).toBe(true);
});

it('one of two concurrent approvals wins, and the other user sees who approved', async () => {
  const { fixture } = context;
  const flag = await fixture.addFlag();
  const id = await request('bob', flag);
  const people = ['alice', 'root'] as const;
  const [alice, root] = await Promise.all(
    people.map(async (person) => await fixture.open(person, at(webShop, 'prod', 'approvals'))),
  );
  if (alice === undefined || root === undefined) throw new Error('A window did not open');
  for (const window of [alice, root]) {
    await waitUntilLive(window.page);
    window.expectRefusal(409, '/approve');
  }
  // Both approvals wait for a lock in the database at the same time.
  await whileLocked(
    fixture.database.pool,
    { text: 'SELECT FROM pending_changes WHERE id = $1 FOR UPDATE', values: [id] },
    2,
    async () =>
      await Promise.all(
        [alice, root].map(async ({ page }) => {
          await button(cardOf(page, 'bob', flag), en.approvals.approve).click();
        }),
      ),
  );
  const decision = await cardOf(alice.page, 'bob', flag)
    .getByText(/^Approved by/)
    .innerText();
  const winner = decision === en.approvals.decided.approved('alice') ? 'alice' : 'root';
  const loser = winner === 'alice' ? root : alice;
  const decided = en.approvals.decided.approved(winner);
  await loser.page.getByText(en.approvals.alreadyDecided(decided)).waitFor();
  for (const { page } of [alice, root])
    await cardOf(page, 'bob', flag).getByText(decided, { exact: true }).waitFor();
});

it('a field that is shared with prod needs a request in every environment', async () => {
  const { fixture } = context;
  const flag = await fixture.addFlag();
  const { page } = await fixture.open('alice', pageOf(flag, 'dev'));
  const form = page.getByRole('form', { name: en.feature.details });
  await field(form, en.fields.rollout_key).fill('customer_id');
  await button(form, en.approvals.request).click();
  await submitReason(page, 'The same customer gets the same');
  const card = page.getByRole('article');
  await card.getByText('customer_id').waitFor();
  await card.getByText(en.approvals.ownRequest).waitFor();
});

it('a requester cannot approve their own request', async () => {
  const { fixture } = context;
  const flag = await fixture.addFlag();
  await request('alice', flag);
  const alice = await fixture.open('alice', at(webShop, 'prod', 'approvals'));
  const card = cardOf(alice.page, 'alice', flag);
  await card.getByText(en.approvals.ownRequest).waitFor();
  expect(await button(card, en.approvals.approve).count()).toBe(0);
  expect(await button(card, en.approvals.reject).count()).toBe(0);
  expect(await button(card, en.approvals.cancel).isEnabled()).toBe(true);
});

it('the badge counts the open requests of all environments', async () => {
  const { fixture } = context;
  const flag = await fixture.addFlag();
  const alice = await fixture.open('alice', at(billing, 'dev', 'features'));
  await waitUntilLive(alice.page);
  const link = alice.page
    .getByRole('navigation', { name: en.shell.navigation })
    .first()
    .getByRole('link', { name: en.shell.approvals });
  const badge = link.getByRole('img');
  await badge.waitFor();
  const before = Number((await badge.innerText()).trim());
  const id = await request('bob', flag);
  await link.getByRole('img', { name: en.approvals.countLabel(before + 1), exact: true }).waitFor();
  await fixture.request('bob', 'POST', `/api/pending-changes/${id}/cancel`);
  await link.getByRole('img', { name: en.approvals.countLabel(before), exact: true }).waitFor();
});

it('an approved deletion removes the flag in all windows', async () => {
  const { fixture } = context;
  const flag = await fixture.addFlag();
  const alice = await fixture.open('alice', pageOf(flag, 'dev'));
  const bob = await fixture.open('bob', listOf(flag, 'dev'));
  await waitUntilLive(bob.page);
  await rowOf(bob.page, flag).waitFor();
  await button(alice.page, en.feature.delete).click();
  const dialog = alice.page.getByRole('dialog');
  await dialog.getByRole('textbox').first().fill(flag.key);
  await submitReason(alice.page, 'Not used any more');
  const root = await fixture.open('root', at(webShop, 'prod', 'approvals'));
  await button(cardOf(root.page, 'alice', flag), en.approvals.approve).click();
  await rowOf(bob.page, flag).waitFor({ state: 'hidden' });
  await alice.page.getByText(en.feature.deletedBy('root')).waitFor();
});
