import { it } from 'vitest';
import { en } from '../../packages/console/src/i18n/en.js';
import { whileLocked } from '../../packages/server/test/rest-fixture.js';
import {
  approve,
  button,
  cardOf,
  flip,
  submitReason,
  waitUntilLive,
  rowOf,
  showCard,
  switchOf,
} from './screen.js';
import { at, type Flag, listOf, pageOf, type Person, useConsoleFixture, webShop } from './console-fixture.js';

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
  await showCard(card);
  await card.getByText('The launch is today').waitFor();
  await approve(card);

  await switchOf(bob.page, flag, true).waitFor();
  await rowOf(bob.page, flag).getByText(en.features.pendingBy('bob')).waitFor({ state: 'hidden' });
  await switchOf(root.page, flag, true).waitFor();
  await card.getByText(en.approvals.decided.approved('alice')).waitFor();
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
          await approve(cardOf(page, 'bob', flag));
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
  await approve(cardOf(root.page, 'alice', flag));
  await rowOf(bob.page, flag).waitFor({ state: 'hidden' });
  await alice.page.getByText(en.feature.deletedBy('root')).waitFor();
});
