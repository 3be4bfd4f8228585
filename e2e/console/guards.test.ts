import { expect, it } from 'vitest';
import { en } from '../../packages/console/src/i18n/en.js';
import { seedProject, type SeededProject } from '../../packages/server/test/database.js';
import { button, cardOf, flip, submitReason, waitUntilLive, switchOf } from './screen.js';
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

  await alice.page.goto(at(project.projectId, 'dev', 'activity'));
  const entries = alice.page.getByRole('listitem').filter({ hasText: en.entities.environment });
  await entries.nth(1).waitFor();
  expect(await entries.count()).toBe(2);
  expect(await entries.first().textContent()).toContain('alice');
});

it('a change under a guard that the page does not know asks for a reason', async () => {
  const { fixture } = context;
  const { project, flag } = await makeProject('Unknown guard');
  const bob = await fixture.open('bob', listOf(flag, 'dev'));
  await waitUntilLive(bob.page);
  // The write bypasses the server, so there is no event.
  await fixture.database.pool.query(
    `INSERT INTO flagcast.guarded_environments (environment_id, guarded_by) VALUES ($1, 'ops')`,
    [project.environments.dev],
  );
  bob.expectRefusal(400, `/api/features/${flag.id}`);
  await flip(switchOf(bob.page, flag, false));
  await submitReason(bob.page, 'The launch is today');
  await bob.page.getByText(en.features.pendingBy('bob')).waitFor();
});

it('the request of a user who is no longer active is marked', async () => {
  const { fixture } = context;
  const { project, flag } = await makeProject('Leavers');
  await fixture.request('alice', 'PATCH', `/api/environments/${project.environments.dev}`, { guarded: true });
  await fixture.change('bob', flag, 'dev', { enabled: true, reason: 'The launch is today' });
  await fixture.database.pool.query(`UPDATE users SET is_active = false WHERE username = 'bob'`);
  const { page } = await fixture.open('alice', at(project.projectId, 'dev', 'approvals'));
  await cardOf(page, 'bob', flag).getByText(en.approvals.requesterInactive).waitFor();
  await fixture.database.pool.query(`UPDATE users SET is_active = true WHERE username = 'bob'`);
});

it("on a Togglr's database a tagged flag asks for a reason, and approving asks for the password", async () => {
  const { fixture } = context;
  const { pool } = fixture.database;
  const { project, flag } = await makeProject('Tags');
  await pool.query(
    `CREATE TABLE tags (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), project_id uuid NOT NULL, slug text NOT NULL);
     CREATE TABLE feature_tags (feature_id uuid NOT NULL, tag_id uuid NOT NULL)`,
  );
  await pool.query(
    `WITH tag AS (INSERT INTO tags (project_id, slug) VALUES ($1, 'guarded') RETURNING id)
     INSERT INTO feature_tags SELECT $2, id FROM tag`,
    [project.projectId, flag.id],
  );
  const bob = await fixture.open('bob', listOf(flag, 'dev'));
  bob.expectRefusal(400, `/api/features/${flag.id}`);
  await waitUntilLive(bob.page);
  await flip(switchOf(bob.page, flag, false));
  await bob.page.getByText(en.approvals.reasonForFlag).waitFor();
  await submitReason(bob.page, 'The launch is today');

  const alice = await fixture.open('alice', at(project.projectId, 'dev', 'approvals'));
  alice.expectRefusal(403, '/approve');
  const card = cardOf(alice.page, 'bob', flag);
  await button(card, en.approvals.approve).click();
  const dialog = alice.page.getByRole('dialog', { name: en.approvals.approveTitle });
  const password = dialog.getByLabel(en.signIn.password, { exact: true });
  await password.fill('a guess');
  await button(dialog, en.approvals.approve).click();
  await alice.page.getByText(en.errors.password_wrong).waitFor();
  await password.fill('alice-demo');
  await button(dialog, en.approvals.approve).click();
  await card.getByText(en.approvals.decided.approved('alice')).waitFor();
  await switchOf(bob.page, flag, true).waitFor();

  await fixture.change('bob', flag, 'dev', { enabled: false, reason: 'Not yet' });
  await pool.query(`UPDATE users SET password_hash = '' WHERE username = 'alice'`);
  await alice.page.reload();
  await cardOf(alice.page, 'bob', flag).getByText(en.approvals.elsewhere).waitFor();
  expect(await button(alice.page, en.approvals.approve).count()).toBe(0);
});
