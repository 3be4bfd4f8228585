import { screen, waitFor, within } from '@testing-library/dom';
import { describe, expect, it } from 'vitest';
import { en } from '../src/i18n/en.js';
import {
  button,
  click,
  closeConsole,
  createServer,
  enter,
  field,
  openLive,
  serverActs,
} from './fixture/console.js';
import { openChange } from './fixture/data.js';
import type { ScriptedServer } from './fixture/scripted-server.js';

const page = '/p/shop/dev/features/f1';
const value = en.feature.valueIn('Development');

async function form(): Promise<HTMLElement> {
  return await screen.findByRole('form', { name: en.feature.details });
}

/** Closes the page and opens it again in the same tab. */
async function reload(server: ScriptedServer, path: string): Promise<void> {
  const kept = Object.entries(sessionStorage) as [string, string][];
  closeConsole();
  for (const [key, text] of kept) sessionStorage.setItem(key, text);
  await openLive(path, server);
}

/** Opens the dialog that asks why the flag is switched on in prod. */
async function openRequest(server: ScriptedServer): Promise<HTMLElement> {
  await openLive('/p/shop/prod/features', server);
  await click(await screen.findByRole('switch', { name: en.features.switchLabel('Flag f1') }));
  return await screen.findByRole('dialog', { name: en.features.turnOn('Flag f1') });
}

describe('an edit of a flag', () => {
  it('survives a reload, and follows what others have changed meanwhile', async () => {
    const server = createServer();
    await openLive(page, server);
    await enter(value, 'mine', await form());
    server.store('f1', { name: 'Renamed', default_value: 'theirs' });
    await reload(server, page);
    expect(field(value, await form()).value).toBe('mine');
    expect(field(en.fields.name, await form()).value).toBe('Renamed');
    await screen.findByText(en.feature.conflictHint);
  });

  it('is forgotten when it is discarded', async () => {
    const server = createServer();
    await openLive(page, server);
    await enter(value, 'mine', await form());
    await click(button(en.feature.discard, await form()));
    await reload(server, page);
    expect(field(value, await form()).value).toBe('off');
  });

  it('asks before the user leaves it by a link, and by closing the tab', async () => {
    const server = createServer();
    await openLive(page, server);
    const leaves = (): boolean => dispatchEvent(new Event('beforeunload', { cancelable: true }));
    expect(leaves()).toBe(true);
    await enter(value, 'mine', await form());
    expect(leaves()).toBe(false);
    await click(screen.getByRole('link', { name: en.feature.back }));
    await click(button(en.shell.stay, await screen.findByRole('dialog', { name: en.shell.leaveTitle })));
    expect(field(value, await form()).value).toBe('mine');
    await click(screen.getByRole('link', { name: en.feature.back }));
    await click(button(en.shell.leave, await screen.findByRole('dialog', { name: en.shell.leaveTitle })));
    await screen.findByRole('heading', { name: en.shell.features });
  });

  it('counts a text that is too long, does not cut it, and cannot be saved', async () => {
    const server = createServer();
    await openLive(page, server);
    await enter(value, '🙂'.repeat(128), await form());
    within(await form()).getByText(en.shell.length(128, 128));
    expect(button(en.feature.save, await form()).disabled).toBe(false);
    await enter(value, 'x'.repeat(130), await form());
    within(await form()).getByText(en.shell.tooLong(2));
    expect(button(en.feature.save, await form()).disabled).toBe(true);
  });
});

describe('a request', () => {
  it('keeps its reason after an error and a reload, until it is sent', async () => {
    const server = createServer();
    server.refuse('PATCH', /./, 503, { code: 'busy' });
    const dialog = await openRequest(server);
    await enter(en.approvals.reason, 'The launch is today', dialog);
    await click(button(en.approvals.request, dialog));
    await screen.findByText(en.errors.busy);
    expect(field(en.approvals.reason, dialog).value).toBe('The launch is today');
    const kept = Object.entries(sessionStorage) as [string, string][];
    closeConsole();
    for (const [key, text] of kept) sessionStorage.setItem(key, text);
    server.on('PATCH', /./, () => ({ status: 202, body: {} }));
    const again = await openRequest(server);
    expect(field(en.approvals.reason, again).value).toBe('The launch is today');
    await click(button(en.approvals.request, again));
    await waitFor(() => expect(screen.queryByRole('dialog')).toBeNull());
    expect(Object.keys(sessionStorage).filter((key) => key.startsWith('flagcast.draft'))).toEqual([]);
  });

  it('says that another user has just requested a change of the flag, and cannot be sent', async () => {
    const server = createServer();
    const dialog = await openRequest(server);
    await enter(en.approvals.reason, 'The launch is today', dialog);
    await serverActs(() => server.step('pending', openChange('r1')));
    within(dialog).getByText(en.approvals.justRequested('bob'));
    expect(button(en.approvals.request, dialog).disabled).toBe(true);
  });

  it('still asks for what the user has clicked when another user switches the flag meanwhile', async () => {
    const server = createServer();
    const dialog = await openRequest(server);
    await enter(en.approvals.reason, 'The launch is today', dialog);
    await serverActs(() =>
      server.emit({
        environment: 'prod',
        environment_id: 'prod',
        feature: server.store('f1', { enabled: true }),
      }),
    );
    await screen.findByRole('dialog', { name: en.features.turnOn('Flag f1') });
    within(dialog).getByText(en.approvals.alreadyThere);
    expect(button(en.approvals.request, dialog).disabled).toBe(true);
  });
});
