import type { ChannelName } from '@flagcast/protocol';
import type { Page } from 'playwright-core';
import { expect, it } from 'vitest';
import { en } from '../../packages/console/src/i18n/en.js';
import { seedProject, type SeededProject } from '../../packages/server/test/database.js';
import type { ConsoleWindow } from './console-window.js';
import { waitUntilLive, switchOf } from './screen.js';
import { at, type Flag, listOf, pageOf, useConsoleFixture } from './console-fixture.js';

const context = useConsoleFixture();

interface OpenedProject {
  readonly project: SeededProject;
  readonly flag: Flag;
  readonly window: ConsoleWindow;
  readonly page: Page;
}

/** Opens alice's page of the environment dev in a new project with one flag. */
async function openDev(
  name: string,
  path: (flag: Flag, env: string) => string = listOf,
): Promise<OpenedProject> {
  const { fixture } = context;
  const project = await seedProject(fixture.database.pool, { name });
  await fixture.addMember(project, 'alice', 'project_owner');
  const flag = await fixture.addFlag(project.projectId);
  const window = await fixture.open('alice', path(flag, 'dev'), { injectsMessages: true });
  await waitUntilLive(window.page);
  return { project, flag, window, page: window.page };
}

function devOf({ projectId, environments }: SeededProject, environment = 'dev'): ChannelName {
  return { project_id: projectId, environment, environment_id: environments.dev };
}

/** Renames an environment, and sends the page the message about it. */
async function rename(
  { window }: OpenedProject,
  { project_id: projectId, environment_id: id, environment: previous }: ChannelName,
  key: string,
): Promise<void> {
  await context.fixture.database.pool.query('UPDATE environments SET key = $2 WHERE id = $1', [id, key]);
  window.injectMessage({
    type: 'channel_changed',
    project_id: projectId,
    environment: key,
    environment_id: id,
    previous_environment: previous,
  });
}

it('a renamed environment keeps its page, and the address follows', async () => {
  const opened = await openDev('Renamed');
  const { project, flag, page } = opened;
  await page.evaluate('globalThis.wasLoadedBefore = true');
  await rename(opened, devOf(project), 'development');
  await page.waitForURL((url) => url.pathname === at(project.projectId, 'development', 'features'));
  expect(new URL(page.url()).searchParams.get('q')).toBe(flag.key);
  await page
    .getByRole('radio', { name: 'development', exact: true, checked: true })
    .waitFor({ state: 'attached' });
  await waitUntilLive(page);
  await context.fixture.change('alice', flag, 'development', { enabled: true });
  await switchOf(page, flag, true).waitFor();
  await page.getByRole('link', { name: flag.name, exact: true }).click();
  await page.waitForURL((url) => url.pathname === pageOf(flag, 'development'));
  expect(await page.evaluate('globalThis.wasLoadedBefore')).toBe(true);
});

it('two environments that swap their keys keep their pages', async () => {
  const opened = await openDev('Swapped');
  const { project, flag, page } = opened;
  const stageId = project.environments.stage;
  await context.fixture.change('alice', flag, 'dev', { enabled: true });
  await switchOf(page, flag, true).waitFor();
  await context.fixture.database.pool.query(`UPDATE environments SET key = 'swapping' WHERE id = $1`, [
    stageId,
  ]);
  await rename(opened, devOf(project), 'stage');
  await page.waitForURL((url) => url.pathname === at(project.projectId, 'stage', 'features'));
  await rename(opened, { ...devOf(project, 'stage'), environment_id: stageId }, 'dev');
  await switchOf(page, flag, true).waitFor();
  await page.getByRole('radio', { name: 'dev', exact: true, checked: false }).waitFor({ state: 'attached' });
  expect(new URL(page.url()).pathname).toBe(at(project.projectId, 'stage', 'features'));

  // The previous key of the page is now that of the other environment.
  await page.getByText('dev', { exact: true }).click();
  await page.waitForURL((url) => url.pathname === at(project.projectId, 'dev', 'features'));
  await switchOf(page, flag, false).waitFor();
  await waitUntilLive(page);
});

it('a deleted environment is shown as deleted, with a link to the remaining flags', async () => {
  const { project, window, page } = await openDev('Deleted environment');
  const { pool } = context.fixture.database;
  const id = project.environments.dev;
  await pool.query('DELETE FROM feature_params WHERE environment_id = $1', [id]);
  await pool.query('DELETE FROM environments WHERE id = $1', [id]);
  window.injectMessage({
    type: 'error',
    code: 'environment_deleted',
    message: 'The environment was deleted',
    project_id: project.projectId,
    environment_id: id,
  });
  await page.getByRole('heading', { name: en.shell.gone.environment_deleted }).waitFor();
  await page.getByText(en.shell.goneHint).waitFor();
  await page.getByRole('link', { name: en.shell.goToFlags }).click();
  await page.getByRole('heading', { name: en.shell.features, level: 1 }).waitFor();
  await waitUntilLive(page);
});

it.each(['project_archived', 'project_deleted'] as const)(
  '%s: the page shows the message and a link to another project',
  async (code) => {
    const { project, window, page } = await openDev(code);
    await context.fixture.database.pool.query('UPDATE projects SET archived_at = now() WHERE id = $1', [
      project.projectId,
    ]);
    window.injectMessage({
      type: 'error',
      code,
      message: 'The project is gone',
      project_id: project.projectId,
      environment_id: project.environments.dev,
    });
    await page.getByRole('heading', { name: en.shell.gone[code] }).waitFor();
    await page.getByRole('link', { name: en.shell.goToFlags }).click();
    await page.getByRole('heading', { name: en.shell.features, level: 1 }).waitFor();
    await waitUntilLive(page);
    expect(new URL(page.url()).pathname).not.toContain(project.projectId);
  },
);
