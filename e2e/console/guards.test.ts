import { expect, it } from 'vitest';
import { en } from '../../packages/console/src/i18n/en.js';
import { seedProject, type SeededProject } from '../../packages/server/test/database.js';
import { button, flip, submitReason, waitUntilLive, switchOf, visit } from './screen.js';
import { at, type Flag, listOf, useConsoleFixture } from './console-fixture.js';

const context = useConsoleFixture();

/** A project of the test's own; alice owns it, bob may switch flags. */
async function makeProject(name: string): Promise<{ project: SeededProject; flag: Flag }> {
  const { fixture } = context;
  const project = await seedProject(fixture.database.pool, { name });
  await fixture.addMember(project, 'alice', 'project_owner');
  await fixture.addMember(project, 'bob', 'project_member');
  return { project, flag: await fixture.addFlag(project.projectId) };
}

it('an owner guards an environment and removes the guard, and the screens of others follow at once', async () => {
  const { fixture } = context;
  const { project, flag } = await makeProject('Guards');
  const alice = await fixture.open('alice', at(project.projectId, 'dev', 'guards'));
  const bob = await fixture.open('bob', listOf(flag, 'dev'));
  await waitUntilLive(alice.page);
  await waitUntilLive(bob.page);
  expect(await bob.page.getByRole('link', { name: en.shell.guards }).count()).toBe(0);

  await button(alice.page, en.guards.add('Development')).click();
  const card = alice.page.getByRole('article', { name: 'Development', exact: true });
  await card.getByText(en.guards.guardedBy('alice')).waitFor();
  await bob.page.getByText(en.features.guardedHere).waitFor();
  await flip(switchOf(bob.page, flag, false));
  await submitReason(bob.page, 'The launch is today');

  await button(alice.page, en.guards.remove('Development')).click();
  const dialog = alice.page.getByRole('dialog');
  await button(dialog, en.guards.confirm).click();
  await card.getByText(en.guards.notGuarded).waitFor();
  await bob.page.getByText(en.features.guardedHere).waitFor({ state: 'hidden' });

  await visit(alice.page, at(project.projectId, 'dev', 'activity'));
  const entries = alice.page.getByRole('listitem').filter({ hasText: en.entities.environment });
  await entries.nth(1).waitFor();
  expect(await entries.count()).toBe(2);
  expect(await entries.first().textContent()).toContain('alice');
});
