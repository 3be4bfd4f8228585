import type { ChannelName } from '@flagcast/protocol';
import type { Page } from 'playwright-core';
import { expect, it } from 'vitest';
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
