import { expect, it } from 'vitest';
import { en } from '../../packages/console/src/i18n/en.js';
import { button, cardOf, field, waitUntilLive, rowOf } from './screen.js';
import { at, billing, listOf, mobileApp, pageOf, useConsoleFixture, webShop } from './console-fixture.js';

const context = useConsoleFixture();

it('a viewer sees no controls for changes', async () => {
  const { fixture } = context;
  const flag = await fixture.addFlag();
  await fixture.change('bob', flag, 'prod', { enabled: true, reason: 'The launch is today' });
  const { page } = await fixture.open('carol', listOf(flag, 'dev'));
  await waitUntilLive(page);
  await rowOf(page, flag).getByText(en.features.off, { exact: true }).waitFor();
  expect(await page.getByRole('switch').count()).toBe(0);
  await fixture.change('bob', flag, 'dev', { enabled: true });
  await rowOf(page, flag).getByText(en.features.on, { exact: true }).waitFor();
  expect(await button(page, en.features.create).count()).toBe(0);

  await page.goto(pageOf(flag, 'dev'));
  const form = page.getByRole('form', { name: en.feature.details });
  await field(form, en.fields.name).waitFor();
  for (const text of await form.getByRole('textbox').all()) expect(await text.isEditable()).toBe(false);
  for (const control of await form.getByRole('switch').all()) expect(await control.isDisabled()).toBe(true);
  expect(await button(page, en.feature.save).count()).toBe(0);
  expect(await button(page, en.feature.delete).count()).toBe(0);

  await page.goto(at(webShop, 'prod', 'approvals'));
  const card = cardOf(page, 'bob', flag);
  await card.waitFor();
  expect(await card.getByRole('button').count()).toBe(0);
});

it('a member can switch a flag but not rename it', async () => {
  const { fixture } = context;
  const flag = await fixture.addFlag();
  const { page } = await fixture.open('bob', pageOf(flag, 'dev'));
  const form = page.getByRole('form', { name: en.feature.details });
  await field(form, en.fields.name).waitFor();
  expect(await field(form, en.fields.name).isEditable()).toBe(false);
  expect(await form.getByRole('switch').isEnabled()).toBe(true);
  expect(await button(page, en.feature.delete).count()).toBe(0);
});

it('a member of one project sees no other projects', async () => {
  const { fixture } = context;
  const flag = await fixture.addFlag();
  await fixture.change('bob', flag, 'prod', { enabled: true, reason: 'The launch is today' });
  const dave = await fixture.open('dave', '/');
  const { page } = dave;
  await button(page, en.shell.projectIs('Billing')).click();
  const projects = page.getByRole('menuitem');
  await projects.first().waitFor();
  expect(await projects.allTextContents()).toEqual(['Billing']);
  await page.keyboard.press('Escape');
  expect(new URL(page.url()).pathname).toContain(billing);
  await page.goto(at(billing, 'prod', 'approvals'));
  await waitUntilLive(page);
  await page.getByRole('heading', { name: en.shell.approvals, level: 1 }).waitFor();
  expect(await page.getByText('Web shop').count()).toBe(0);

  for (const path of [
    at(webShop, 'prod', 'features'),
    pageOf(flag, 'dev'),
    at(mobileApp, 'dev', 'activity'),
  ]) {
    await page.goto(path);
    await page.getByRole('heading', { name: en.shell.notFound }).waitFor();
    expect(await page.getByText(flag.name).count()).toBe(0);
  }
});
