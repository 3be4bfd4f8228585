import { expect, it } from 'vitest';
import { en } from '../../packages/console/src/i18n/en.js';
import { seedProject } from '../../packages/server/test/database.js';
import { button, field, flip, waitUntilLive, rowOf, switchOf, visit } from './screen.js';
import { at, listOf, pageOf, useConsoleFixture } from './console-fixture.js';

const context = useConsoleFixture();

it('a switched flag and an edit show in the window of another user, with their author and in the history', async () => {
  const { fixture } = context;
  const flag = await fixture.addFlag();
  const bob = await fixture.open('bob', listOf(flag, 'dev'));
  const alice = await fixture.open('alice', listOf(flag, 'dev'));
  await waitUntilLive(alice.page);
  await switchOf(alice.page, flag, false).waitFor();
  await flip(switchOf(bob.page, flag, false));
  await switchOf(alice.page, flag, true).waitFor();
  await rowOf(alice.page, flag).getByText(en.features.happened('bob', en.actions.updated)).waitFor();
  await switchOf(bob.page, flag, true).waitFor();
  await rowOf(alice.page, flag).getByText('bob', { exact: true }).waitFor();

  // And back, without a reload of either window.
  await flip(switchOf(alice.page, flag, true));
  await switchOf(bob.page, flag, false).waitFor();
  await rowOf(bob.page, flag).getByText(en.features.happened('alice', en.actions.updated)).waitFor();

  await visit(bob.page, pageOf(flag, 'dev'));
  await bob.page.getByRole('heading', { name: flag.name, level: 1 }).waitFor();
  await waitUntilLive(bob.page);

  await alice.page.getByRole('link', { name: flag.name }).click();
  const form = alice.page.getByRole('form', { name: en.feature.details });
  await field(form, en.fields.name).fill('Faster delivery');
  await field(form, en.fields.description).fill('Packed before it is paid');
  await button(form, en.feature.save).click();

  await bob.page.getByRole('heading', { name: 'Faster delivery', level: 1 }).waitFor();
  const details = bob.page.getByRole('form', { name: en.feature.details });
  // A member reads it as text.
  await details.getByText('Packed before it is paid', { exact: true }).waitFor();
  const history = bob.page.getByRole('region', { name: en.feature.history });
  const entry = history.getByRole('listitem').filter({ hasText: 'Packed before it is paid' });
  await entry.getByText('alice').waitFor();
  await entry.getByText('Made for a test').waitFor();
});

it('a created and deleted flag appears and disappears in the windows of other users', async () => {
  const { fixture } = context;
  const { pool } = fixture.database;
  // In the demo's projects prod is guarded, so a deletion would need an approval.
  const project = await seedProject(pool, { name: 'Playground' });
  await fixture.addMember(project, 'alice', 'project_owner');
  await fixture.addMember(project, 'bob', 'project_member');
  const alice = await fixture.open('alice', at(project.projectId, 'dev', 'features'));
  const bob = await fixture.open('bob', at(project.projectId, 'dev', 'features'));
  await bob.page.getByText(en.features.empty).waitFor();
  await waitUntilLive(bob.page);

  await button(alice.page, en.features.create).first().click();
  const dialog = alice.page.getByRole('dialog');
  await field(dialog, en.fields.name).fill('Free returns');
  await button(dialog, en.features.submitCreate).click();
  await alice.page.getByRole('heading', { name: 'Free returns', level: 1 }).waitFor();

  await bob.page.getByRole('row').filter({ hasText: 'free-returns' }).waitFor();
  await bob.page.getByRole('link', { name: 'Free returns' }).click();
  await bob.page.getByRole('heading', { name: 'Free returns', level: 1 }).waitFor();

  await button(alice.page, en.feature.delete).click();
  const confirmation = alice.page.getByRole('dialog', { name: en.feature.deleteTitle('Free returns') });
  const really = button(confirmation, en.feature.delete);
  expect(await really.isDisabled()).toBe(true);
  await confirmation.getByRole('textbox').fill('free-returns');
  await really.click();

  await bob.page
    .getByRole('alert')
    .filter({ hasText: en.feature.deletedBy('alice') })
    .waitFor();
  expect(await button(bob.page, en.feature.save).count()).toBe(0);
  await alice.page.getByRole('heading', { name: en.shell.features, level: 1 }).waitFor();
  await visit(bob.page, at(project.projectId, 'dev', 'features'));
  await bob.page.getByText(en.features.empty).waitFor();
});
