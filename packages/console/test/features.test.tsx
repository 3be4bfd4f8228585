import { fireEvent, screen, waitFor, within } from '@testing-library/dom';
import { describe, expect, it } from 'vitest';
import { en } from '../src/i18n/en.js';
import { suggestKey } from '../src/feature/create-dialog.js';
import {
  button,
  click,
  createServer,
  enter,
  openConsole,
  openLive,
  serverActs,
  waitUntilLive,
} from './fixture/console.js';
import { feature, openChange, pendingChange, userOf } from './fixture/data.js';
import type { Reply, ScriptedServer } from './fixture/scripted-server.js';

const page = '/p/shop/dev/features';

function serverWith(...names: string[]): ScriptedServer {
  const server = createServer();
  server.features.clear();
  for (const [index, name] of names.entries()) {
    server.features.set(name, feature(name, { name, updated_at: `2026-11-29T10:00:0${index}.000000Z` }));
  }
  return server;
}

const names = (): string[] =>
  [...document.querySelectorAll('[data-row-link]')].map((link) => link.textContent);

async function lists(expected: readonly string[]): Promise<void> {
  await waitFor(() => expect(names()).toEqual(expected));
}

const switchOf = (name: string): HTMLInputElement =>
  screen.getByRole<HTMLInputElement>('switch', { name: en.features.switchLabel(name) });

describe('the list of flags', () => {
  it('filters and sorts by its address, and writes its view into it', async () => {
    const server = serverWith('banner', 'cart', 'checkout');
    server.store('cart', { enabled: true, updated_at: '2026-11-29T12:00:00.000000Z' });
    await openLive(`${page}?q=c&sort=changed&order=down`, server);
    await lists(['cart', 'checkout']);
    screen.getByText(en.features.count(2, 3));
    await click(screen.getByLabelText(en.features.off));
    await lists(['checkout']);
    await waitFor(() => expect(location.search).toBe('?q=c&state=off&sort=changed&order=down'));
  });

  it('has the chosen columns in its address, and remembers them for the next visit', async () => {
    const server = serverWith('cart');
    server.store('cart', { tags: [{ slug: 'web', name: 'Web', color: '#ff0000' }] });
    await openLive(page, server);
    await lists(['cart']);
    const headings = () => screen.getAllByRole('columnheader').map(({ textContent }) => textContent);
    await click(button(en.features.columns));
    await click(await screen.findByRole('menuitemcheckbox', { name: en.features.tags }));
    await click(screen.getByRole('menuitemcheckbox', { name: en.features.value }));
    await click(screen.getByRole('menuitemcheckbox', { name: 'prod' }));
    await waitFor(() => expect(location.search).toBe('?columns=tags.changed&env=prod'));

    screen.getByText('Web');
    expect(headings().at(2)).toBe('prod');
    await click(screen.getByRole('menuitemcheckbox', { name: en.features.compact }));
    history.replaceState(null, '', page);
    expect(document.querySelector('[data-compact]')).not.toBeNull();
    const link = (name: string) => screen.getAllByRole('link', { name })[0] ?? document.body;
    await click(link(en.shell.activity));
    await screen.findByRole('heading', { name: en.shell.activity });
    await click(link(en.shell.features));
    await waitFor(() => expect(location.search).toBe('?columns=tags.changed&env=prod'));
    expect(document.querySelector('[data-compact]')).not.toBeNull();
    // The columns of a link come first, and are not remembered.
    history.pushState(null, '', `${page}?columns=kind`);
    fireEvent(window, new PopStateEvent('popstate'));
    await waitFor(() => expect(headings().slice(2)).toEqual([en.fields.kind]));
    expect(localStorage.getItem('flagcast.columns')).toBe('columns=tags.changed&env=prod');
  });

  it('shows the flag in another environment, live, and filters what differs there', async () => {
    const server = serverWith('banner', 'cart');
    await openLive(`${page}?env=prod`, server);
    await lists(['banner', 'cart']);
    const cell = await screen.findAllByRole('link', { name: en.features.off });
    expect(cell).toHaveLength(2);
    await click(button(en.features.filters));
    await click(await screen.findByRole('menuitemcheckbox', { name: en.features.differs }));
    await screen.findByText(en.features.noMatch);
    await serverActs(() => {
      const changed = feature('cart', { name: 'cart', enabled: true, default_value: 'there' });
      server.emit({ environment: 'prod', environment_id: 'prod', feature_id: 'cart', feature: changed });
    });
    await lists(['cart']);
    screen.getByText('there');
    await waitFor(() => expect(location.search).toContain('differs=1'));
    await click(screen.getByRole('link', { name: en.features.on }));
    await screen.findByRole('heading', { name: 'cart' });
    expect(location.pathname).toBe('/p/shop/prod/features/cart');
  });

  it('loses the columns of environments that are unknown, renamed or deleted, also from its address', async () => {
    const { server } = await openLive(
      `${page}?columns=value&env=stage&env=gone&env=prod`,
      serverWith('cart'),
    );
    await screen.findByRole('columnheader', { name: 'stage' });
    await waitFor(() => expect(location.search).toBe('?columns=value&env=stage&env=prod'));
    await serverActs(() => {
      const [shop, ...others] = server.projects;
      if (shop === undefined) throw new Error('no project');
      const environments = shop.environments
        .filter(({ id }) => id !== 'prod')
        .map((each) => (each.id === 'stage' ? { ...each, key: 'staging' } : each));
      server.projects = [{ ...shop, environments }, ...others];
      server.broadcast({ type: 'resync', reason: 'scope_changed', feed: 'approvals' });
    });
    await waitFor(() => expect(location.search).toBe('?columns=value'));
    expect(screen.queryAllByRole('columnheader', { name: /stag|prod/ })).toEqual([]);
  });

  it('keeps its filters in another environment, and on the way back from a flag', async () => {
    await openLive(`${page}?q=ca`, serverWith('banner', 'cart'));
    await lists(['cart']);
    await click(screen.getByRole('radio', { name: 'stage' }));
    await waitFor(() => expect(location.pathname).toBe('/p/shop/stage/features'));
    await lists(['cart']);
    await click(screen.getByRole('link', { name: 'cart' }));
    await click(await screen.findByRole('link', { name: en.feature.back }));
    await lists(['cart']);
    expect(location.search).toBe('?q=ca');
  });

  it('appears without a reload when the database responds again', async () => {
    const server = serverWith('cart');
    const allow = server.refuse('GET', /^\/api\/snapshot$/, 503, { code: 'unavailable' });
    openConsole(page, server);
    await waitFor(() => expect(server.paths('GET')).toContain('/api/snapshot'));
    expect(names()).toEqual([]);
    allow();
    await lists(['cart']);
    await waitUntilLive();
    expect(screen.queryByRole('alert')).toBeNull();
  });

  it('does not undo a followed link by a pending update of the address', async () => {
    await openLive(page, serverWith('banner', 'cart'));
    await lists(['banner', 'cart']);
    fireEvent.input(screen.getByRole('searchbox'), { target: { value: 'cart' } });
    await lists(['cart']);
    await click(screen.getByRole('link', { name: 'cart' }));
    await screen.findByRole('heading', { name: 'cart' });
    await screen.findByRole('form');
    expect([location.pathname, location.search]).toEqual([`${page}/cart`, '']);
  });

  it('shows who changed a flag, and highlights it', async () => {
    const { server } = await openLive(page, serverWith('cart'));
    await lists(['cart']);
    server.change('cart', { enabled: true }, 'bob');
    await screen.findByText(en.features.happened('bob', en.actions.updated));
    // The store publishes a state once per frame.
    await waitFor(() => expect(switchOf('cart').checked).toBe(true));
  });

  it('sends a toggle with the version of the flag, and shows the outcome also while it is paused', async () => {
    const { server } = await openLive(page, serverWith('cart'));
    server.on('PATCH', /./, ({ body }) => {
      server.change('cart', { enabled: body['enabled'] === true }, 'alice');
      return { body: { feature: server.features.get('cart') } };
    });
    await lists(['cart']);
    await click(button(en.activity.pause));
    await click(switchOf('cart'));
    await waitFor(() => expect(switchOf('cart').checked).toBe(true));
    expect(server.requests.at(-1)?.body).toEqual({ env: 'dev', version: 'v1', enabled: true });
    await click(switchOf('cart'));
    await waitFor(() => expect(switchOf('cart').checked).toBe(false));
    expect(server.requests.at(-1)?.body).toEqual({ env: 'dev', version: 'v2', enabled: false });
  });

  it('has switches that follow a change that commits late with an early time, and work after it', async () => {
    const { server } = await openLive(page, serverWith('cart'));
    server.on('PATCH', /./, ({ body }) => {
      server.change('cart', { enabled: body['enabled'] === true }, 'alice');
      return { body: { feature: server.features.get('cart') } };
    });
    await lists(['cart']);
    await click(switchOf('cart'));
    await waitFor(() => expect(switchOf('cart').checked).toBe(true));
    server.change('cart', { enabled: false, updated_at: '2026-01-01T00:00:00.000000Z' });
    await waitFor(() => expect(switchOf('cart').checked).toBe(false));
    await click(switchOf('cart'));
    await waitFor(() => expect(switchOf('cart').checked).toBe(true));
    expect(server.requests.at(-1)?.body).toEqual({ env: 'dev', version: 'v3', enabled: true });
  });

  it('keeps the focus on a switch that is saved, and sends nothing while a request is pending', async () => {
    const server = serverWith('cart');
    server.openChanges = [openChange('r1', { environment_id: 'dev', environment: 'dev' })];
    server.features.set('f1', feature('f1', { name: 'requested' }));
    await openLive(page, server);
    await lists(['cart', 'requested']);
    let save: (reply: Reply) => void = () => undefined;
    server.on('PATCH', /./, async () => await new Promise<Reply>((resolve) => (save = resolve)));
    switchOf('cart').focus();
    await click(switchOf('cart'));
    await waitFor(() => expect(switchOf('cart').getAttribute('aria-disabled')).toBe('true'));
    await click(switchOf('cart'));
    await click(switchOf('requested'));
    expect(switchOf('requested').getAttribute('aria-description')).toBe(en.feature.hasPending);
    expect(document.activeElement).toBe(switchOf('cart'));
    save({ body: { feature: server.features.get('cart') } });
    await waitFor(() => expect(switchOf('cart').getAttribute('aria-disabled')).toBe('false'));
    expect(server.paths('PATCH')).toEqual(['/api/features/cart']);
    expect(document.activeElement).toBe(switchOf('cart'));
  });

  it('offers the first flag where there is none', async () => {
    await openLive(page, serverWith());
    await screen.findByText(en.features.empty);
    await click(button(en.features.create));
    await screen.findByRole('dialog', { name: en.features.create });
  });

  it('leads from an empty list of pending requests to those of other environments', async () => {
    const server = serverWith('cart');
    server.openChanges = [openChange('r1')];
    await openLive(`${page}?state=pending`, server);
    await click(await screen.findByRole('link', { name: en.features.pendingElsewhere(1) }));
    await screen.findByRole('heading', { name: en.shell.approvals });
  });

  it('asks for a reason in a guarded environment', async () => {
    const { server } = await openLive('/p/shop/prod/features', serverWith('cart'));
    server.on('PATCH', /./, () => ({ status: 202, body: {} }));
    await lists(['cart']);
    screen.getByText(en.features.guardedHere);
    await click(switchOf('cart'));
    const dialog = await screen.findByRole('dialog', { name: en.features.turnOn('cart') });
    await enter(en.approvals.reason, 'because', dialog);
    await click(button(en.approvals.request, dialog));
    await screen.findByText(en.features.requested);
    expect(screen.queryByRole('dialog')).toBeNull();
  });

  it('stands still while it is paused, and counts the events', async () => {
    const { server } = await openLive(page, serverWith('cart'));
    await lists(['cart']);
    await click(button(en.activity.pause));
    await serverActs(() => void server.change('cart', { enabled: true, name: 'renamed' }));
    await waitFor(() => button(en.activity.resume(1)));
    expect(names()).toEqual(['cart']);
    await click(button(en.activity.resume(1)));
    await lists(['renamed']);
  });

  it('keeps its order under the pointer, and says so', async () => {
    const { server } = await openLive(page, serverWith('banner', 'cart'));
    await lists(['banner', 'cart']);
    const rows = screen.getByRole('rowgroup');
    fireEvent(rows, new PointerEvent('pointerover', { bubbles: true, pointerType: 'mouse' }));
    await serverActs(() => void server.change('banner', { name: 'zebra' }));
    await lists(['zebra', 'cart']);
    await screen.findByText(en.features.orderFrozen);
    fireEvent(rows, new PointerEvent('pointerout', { bubbles: true, pointerType: 'mouse' }));
    await lists(['cart', 'zebra']);
  });

  it('shows pending requests of a flag, and finds them', async () => {
    const server = serverWith('banner', 'cart');
    server.pendingChanges = [pendingChange('r1', 'cart')];
    await openLive(`${page}?state=pending`, server);
    await lists(['cart']);
    screen.getByText(new RegExp(`^${en.features.pendingBy('bob')}`));
  });

  it('has no switches for a viewer, and no button to create a flag', async () => {
    const server = serverWith('cart');
    server.me = userOf('carol', []);
    await openLive(page, server);
    await lists(['cart']);
    expect(screen.queryByRole('switch')).toBeNull();
    expect(screen.queryByRole('button', { name: en.features.create })).toBeNull();
    server.change('cart', { enabled: true });
    await waitFor(() => {
      const [, row] = screen.getAllByRole('row');
      within(row ?? document.body).getByText(en.features.on);
    });
  });

  it('shows the author of a change that it missed while it was disconnected', async () => {
    const server = serverWith('cart');
    await openLive(page, server);
    await lists(['cart']);
    await screen.findByText('root');
    // The first snapshot has missed nothing.
    expect(server.paths('GET').filter((path) => path === '/api/features')).toHaveLength(1);
    server.on('GET', /^\/api\/features$/, () => ({
      body: { features: [...server.features.values()].map((each) => ({ ...each, updated_by: 'carol' })) },
    }));
    // The server cannot send what was missed: the client loads a snapshot.
    server.store('cart', { enabled: true });
    await serverActs(() =>
      server.broadcast({
        type: 'resync',
        project_id: 'shop',
        environment: 'dev',
        environment_id: 'dev',
        reason: 'cursor_expired',
      }),
    );
    await screen.findByText('carol');
    expect(switchOf('cart').checked).toBe(true);
  });
});

describe('a new flag', () => {
  it('gets a key by its name, and opens', async () => {
    const { server } = await openLive(page);
    server.on('POST', /^\/api\/features$/, () => {
      server.change('f9', { name: 'Free returns' }, 'alice');
      return { status: 201, body: { id: 'f9' } };
    });
    await click(button(en.features.create));
    const dialog = await screen.findByRole('dialog', { name: en.features.create });
    await enter(en.fields.name, 'Free returns', dialog);
    await click(button(en.features.submitCreate, dialog));
    await screen.findByRole('heading', { name: 'Free returns' });
    expect(location.pathname).toBe(`${page}/f9`);
    expect(server.requests.find(({ method }) => method === 'POST')?.body).toMatchObject({
      project_id: 'shop',
      key: 'free-returns',
      description: null,
    });
  });

  it('shows what is wrong with its fields', async () => {
    const { server } = await openLive(page);
    const taken = 'is taken by another feature of this project';
    server.refuse('POST', /./, 400, { code: 'invalid', fields: { key: taken, name: 'is unknown' } });
    await click(button(en.features.create));
    const dialog = await screen.findByRole('dialog');
    await enter(en.fields.name, 'x', dialog);
    await click(button(en.features.submitCreate, dialog));
    await within(dialog).findByText('is unknown');
    within(dialog).getByText(en.fieldProblems[taken]);
  });

  it.each([
    ['Free returns!', 'free-returns'],
    ['  A/B — test  ', 'a-b-test'],
    ['Бесплатно', ''],
    [`${'x'.repeat(49)} y`, 'x'.repeat(49)],
  ])('%j suggests the key %j', (name, key) => {
    expect(suggestKey(name)).toBe(key);
  });
});

describe('a deletion', () => {
  it('needs the key of the flag, and returns to the list', async () => {
    const server = createServer();
    server.projects = server.projects.map((each) => ({
      ...each,
      environments: each.environments.filter(({ guarded }) => !guarded),
    }));
    await openLive(`${page}/f1`, server);
    server.on('DELETE', /./, () => ({ body: { feature: null } }));
    await click(button(en.feature.delete));
    const dialog = await screen.findByRole('dialog', { name: en.feature.deleteTitle('Flag f1') });
    expect(button(en.feature.delete, dialog).disabled).toBe(true);
    fireEvent.input(within(dialog).getByRole('textbox'), { target: { value: 'key-f1' } });
    await waitFor(() => expect(button(en.feature.delete, dialog).disabled).toBe(false));
    await click(button(en.feature.delete, dialog));
    await screen.findByRole('heading', { name: en.shell.features });
    expect(server.requests.find(({ method }) => method === 'DELETE')?.body).toEqual({
      env: 'dev',
      version: 'v1',
    });
  });
});
