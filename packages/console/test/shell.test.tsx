import { fireEvent, screen, waitFor } from '@testing-library/dom';
import { describe, expect, it, vi } from 'vitest';
import { en } from '../src/i18n/en.js';
import { ru } from '../src/i18n/ru.js';
import { createShortcutReader } from '../src/shell/shortcuts.js';
import {
  button,
  click,
  createServer,
  enterInto,
  openConsole,
  openLive,
  serverActs,
  tokenOf,
  waitUntilLive,
} from './fixture/console.js';
import { feature, openChange } from './fixture/data.js';
import { rendered } from './fixture/rendered.js';
import type { Reply, ScriptedServer } from './fixture/scripted-server.js';

const page = '/p/shop/dev/features';

async function showsPage(title: string, path: string): Promise<void> {
  await screen.findByRole('heading', { name: title, level: 1 });
  await waitFor(() => expect(location.pathname).toBe(path));
}

function renameEnvironment(server: ScriptedServer, id: string, key: string): void {
  const environments = server.projects[0]?.environments ?? [];
  const found = environments.find((each) => each.id === id);
  if (found === undefined) throw new Error(`no environment ${id}`);
  const previous = found.key;
  found.key = key;
  server.broadcast({
    type: 'channel_changed',
    project_id: 'shop',
    environment: key,
    environment_id: id,
    previous_environment: previous,
  });
}

describe('an address', () => {
  it('without an environment leads to the first one', async () => {
    await openLive('/');
    await showsPage(en.shell.features, page);
  });

  it.each(['/p/shop/nowhere/features', '/p/unknown/dev/activity', `${page}/../nothing`])(
    'that the user cannot view says so and links back: %s',
    async (path) => {
      const server = createServer();
      await openLive(page, server);
      history.pushState(null, '', path);
      fireEvent(window, new PopStateEvent('popstate'));
      await screen.findByRole('heading', { name: en.shell.notFound });
      await click(screen.getByRole('link', { name: en.shell.goToFlags }));
      await showsPage(en.shell.features, page);
    },
  );

  it('that the user cannot view stays for another user, who can', async () => {
    const server = createServer();
    const { projects } = server;
    server.projects = [];
    const { session } = openConsole(page, server);
    await screen.findByRole('heading', { name: en.shell.notFound });
    await click(screen.getByRole('button', { name: new RegExp(`alice.*${en.shell.switchUser}`) }));
    await screen.findByLabelText(en.signIn.username);
    server.projects = projects;
    await serverActs(() => session.signIn(tokenOf('bob')));
    await showsPage(en.shell.features, page);
  });

  it('without any project names the user, and lets another one sign in', async () => {
    const server = createServer();
    server.projects = [];
    openConsole('/', server);
    await screen.findByRole('heading', { name: en.shell.noProjects });
    await click(screen.getByRole('button', { name: new RegExp(`alice.*${en.shell.switchUser}`) }));
    await screen.findByLabelText(en.signIn.username);
  });

  it('of an unknown flag says so', async () => {
    await openLive(`${page}/unknown`);
    await screen.findByText(en.feature.notFound);
  });
});

describe('the switch of project and environment', () => {
  it('stays on the same page, and keeps the feed of approvals', async () => {
    const { server } = await openLive('/p/shop/prod/activity');
    await click(button(en.shell.projectIs('Web shop')));
    await click(await screen.findByRole('menuitem', { name: 'Billing' }));
    await waitFor(() => expect(location.pathname).toBe('/p/billing/prod/activity'));
    // The address changes before the page is rendered.
    await screen.findByRole('button', { name: en.shell.projectIs('Billing') });
    await click(screen.getByRole('radio', { name: 'dev' }));
    await waitFor(() => expect(location.pathname).toBe('/p/billing/dev/activity'));
    await waitFor(() => expect(server.subscribed).toContain('billing/dev'));
    expect(server.subscribed.filter((name) => name === 'approvals')).toHaveLength(1);
  });
});

describe('the header', () => {
  it('stays in the page while another environment opens, with the focus on the switch', async () => {
    const server = createServer();
    await openLive(page, server);
    const logo = document.querySelector('.fc-brand img');
    server.on('GET', /^\/api\/snapshot$/, async () => await new Promise<Reply>(() => undefined));
    const stage = screen.getByRole('radio', { name: 'stage' });
    stage.focus();
    await click(stage);
    await waitFor(() => expect(location.pathname).toBe('/p/shop/stage/features'));
    await screen.findByRole('status', { name: en.shell.loading });
    expect(screen.queryByRole('link', { name: 'Flag f1' })).toBeNull();
    expect(document.querySelector('.fc-brand img')).toBe(logo);
    expect(document.activeElement).toBe(stage);
  });

  it('names production, and lists the environments with it as the last one', async () => {
    const server = createServer();
    server.projects[0]?.environments.reverse();
    await openLive(page, server);
    expect(screen.queryByText(en.shell.production)).toBeNull();
    const environments = screen.getAllByRole<HTMLInputElement>('radio', { name: /^(dev|stage|prod)$/ });
    expect(environments.map(({ value }) => value)).toEqual(['dev', 'stage', 'prod']);
    await click(screen.getByRole('radio', { name: 'prod' }));
    await screen.findByText(en.shell.production);
  });
});

describe('an environment', () => {
  it('keeps its page and its search when its key changes', async () => {
    const server = createServer();
    await openLive(`${page}?q=f1`, server);
    await screen.findByRole('link', { name: 'Flag f1' });
    await serverActs(() => renameEnvironment(server, 'dev', 'development'));
    await waitFor(() => expect(location.pathname).toBe('/p/shop/development/features'));
    expect(location.search).toBe('?q=f1');
    server.emit({ environment: 'development', feature: server.store('f1', { name: 'Renamed' }) });
    await screen.findByText(en.features.happened('bob', en.actions.updated));
    expect(server.sockets.size).toBe(1);
  });

  it('is found by its former key when the user goes back', async () => {
    const server = createServer();
    await openLive(page, server);
    await click(await screen.findByRole('link', { name: 'Flag f1' }));
    await screen.findByRole('heading', { name: 'Flag f1' });
    await serverActs(() => renameEnvironment(server, 'dev', 'development'));
    await waitFor(() => expect(location.pathname).toBe('/p/shop/development/features/f1'));
    history.back();
    await screen.findByRole('heading', { name: en.shell.features });
    await waitFor(() => expect(location.pathname).toBe('/p/shop/development/features'));
  });

  it('keeps its page when it swaps keys with another one', async () => {
    const server = createServer();
    await openLive(page, server);
    await serverActs(() => renameEnvironment(server, 'stage', 'swapping'));
    await serverActs(() => renameEnvironment(server, 'dev', 'stage'));
    await waitFor(() => expect(location.pathname).toBe('/p/shop/stage/features'));
    await serverActs(() => renameEnvironment(server, 'stage', 'dev'));
    await waitFor(() =>
      expect(screen.getAllByRole<HTMLInputElement>('radio', { name: /^(dev|stage)$/ })).toHaveLength(2),
    );
    expect(location.pathname).toBe('/p/shop/stage/features');
    await click(screen.getByRole('radio', { name: 'dev' }));
    await waitFor(() => expect(location.pathname).toBe('/p/shop/dev/features'));
  });

  it.each([
    ['environment_deleted', en.shell.gone.environment_deleted],
    ['project_archived', en.shell.gone.project_archived],
    ['project_deleted', en.shell.gone.project_deleted],
  ])('that is gone (%s) says so and links to the remaining flags', async (code, title) => {
    const server = createServer();
    await openLive(page, server);
    await serverActs(() => {
      server.projects = server.projects.flatMap((each) => {
        if (each.id !== 'shop') return [each];
        if (code !== 'environment_deleted') return [];
        return [{ ...each, environments: each.environments.filter(({ id }) => id !== 'dev') }];
      });
      server.broadcast({
        type: 'error',
        code,
        message: 'gone',
        project_id: 'shop',
        environment_id: 'dev',
      });
    });
    await screen.findByRole('heading', { name: title });
    await click(screen.getByRole('link', { name: en.shell.goToFlags }));
    const next = code === 'environment_deleted' ? '/p/shop/stage/features' : '/p/billing/dev/features';
    await showsPage(en.shell.features, next);
  });
});

describe('a user whose rights are taken', () => {
  it('loses the page, and gets it back with them', async () => {
    const { server } = await openLive(`${page}/f1`);
    await screen.findByRole('form', { name: en.feature.details });
    const { projects } = server;
    const change = (rights: typeof projects): void => {
      server.projects = rights;
      server.broadcast({ type: 'resync', reason: 'scope_changed', feed: 'approvals' });
    };
    await serverActs(() => {
      const place = { project_id: 'shop', environment_id: 'dev' };
      server.broadcast({ type: 'error', code: 'forbidden', message: 'forbidden', ...place });
      change(projects.filter(({ id }) => id !== 'shop'));
    });
    await screen.findByRole('heading', { name: en.shell.notFound });
    await serverActs(() => change(projects));
    await screen.findByRole('form', { name: en.feature.details });
    await waitUntilLive();
  });

  it('sees a request that could not be viewed before', async () => {
    const server = createServer();
    const refused = server.refuse('GET', /^\/api\/pending-changes\/r1$/, 404, { code: 'unknown_change' });
    await openLive('/p/shop/dev/approvals/r1', server);
    await screen.findByText(en.approvals.notFound);
    refused();
    server.on('GET', /^\/api\/pending-changes\/r1$/, () => ({ body: { ...openChange('r1'), steps: [] } }));
    await serverActs(() => server.broadcast({ type: 'resync', reason: 'scope_changed', feed: 'approvals' }));
    await screen.findByRole('article');
  });
});

describe('guards', () => {
  it('appear without a reload when the database responds again', async () => {
    const server = createServer();
    const allow = server.refuse('GET', /^\/api\/projects$/, 503, { code: 'unavailable' });
    openConsole('/p/shop/dev/guards', server);
    await screen.findByText(en.errors.unavailable);
    allow();
    await screen.findByRole('button', { name: en.guards.add('Development') });
    expect(screen.queryByText(en.errors.unavailable)).toBeNull();
  });

  it('are added and removed by an owner, with a confirmation', async () => {
    const server = createServer();
    await openLive('/p/shop/dev/guards', server);
    server.on('PATCH', /^\/api\/environments\/dev$/, ({ body }) => {
      const guarded = body['guarded'] === true;
      server.projects = server.projects.map((each) => ({
        ...each,
        environments: each.environments.map((environment) =>
          environment.id === 'dev'
            ? { ...environment, guarded, guarded_by: guarded ? 'alice' : null }
            : environment,
        ),
      }));
      return { body: {} };
    });
    await click(await screen.findByRole('button', { name: en.guards.add('Development') }));
    await screen.findByText(en.guards.guardedBy('alice'));
    await click(button(en.guards.remove('Development')));
    await click(button(en.guards.confirm, await screen.findByRole('dialog')));
    await screen.findByRole('button', { name: en.guards.add('Development') });
  });
});

describe('keyboard shortcuts', () => {
  const reader = createShortcutReader;
  const key = (text: string, changes: Partial<KeyboardEvent> = {}) => ({
    key: text,
    code: '',
    shiftKey: false,
    ctrlKey: false,
    metaKey: false,
    altKey: false,
    timeStamp: 0,
    ...changes,
  });

  it.each([
    ['/', { action: 'search' }],
    ['p', { action: 'pause' }],
    ['?', { action: 'help' }],
    ['a', null],
    ['g', null],
  ])('%s', (text, shortcut) => {
    expect(reader()(key(text))).toEqual(shortcut);
  });

  it('g and a letter open a page, if the letter follows soon', () => {
    const read = reader();
    const open = (letter: string, afterMs: number) => {
      read(key('g', { timeStamp: 1_000 }));
      return read(key(letter, { timeStamp: 1_000 + afterMs }));
    };
    expect(open('a', 100)).toEqual({ action: 'go', page: 'approvals' });
    expect(open('v', 100)).toEqual({ action: 'go', page: 'activity' });
    expect(open('f', 2_000)).toBeNull();
    expect(open('x', 100)).toBeNull();
    expect(read(key('a', { timeStamp: 1_200 }))).toBeNull();
  });

  it('are found by their place in a Russian layout, and never with a modifier', () => {
    const read = reader();
    read(key('п', { code: 'KeyG' }));
    expect(read(key('м', { code: 'KeyV' }))).toEqual({ action: 'go', page: 'activity' });
    expect(read(key('.', { code: 'Slash' }))).toEqual({ action: 'search' });
    expect(read(key(',', { code: 'Slash', shiftKey: true }))).toEqual({ action: 'help' });
    expect(read(key('p', { ctrlKey: true }))).toBeNull();
  });

  it('open pages and the help, but not while the user types or a dialog is open', async () => {
    await openLive(page);
    const press = (text: string, target: Element = document.body): void =>
      void fireEvent.keyDown(target, { key: text, bubbles: true });
    press('g', screen.getByRole('searchbox'));
    press('a', screen.getByRole('searchbox'));
    press('?');
    await screen.findByRole('dialog', { name: en.keyboard.title });
    press('g');
    press('v');
    expect(location.pathname).toBe(page);
    await click(button(en.shell.close));
    await waitFor(() => expect(screen.queryByRole('dialog')).toBeNull());
    press('g');
    press('a');
    await showsPage(en.shell.approvals, '/p/shop/dev/approvals');
  });
});

describe('the palette', () => {
  it('lists pages, environments and flags, moves with the arrow keys, and opens what is chosen', async () => {
    const server = createServer();
    server.features.set('f2', feature('f2'));
    await openLive(page, server);
    await click(button(en.keyboard.palette));
    const input = await screen.findByRole('combobox', { name: en.keyboard.palette });
    const options = () => screen.getAllByRole('option').map(({ textContent }) => textContent);
    expect(options().slice(0, 2)).toEqual(['FlagsWeb shop', 'ApprovalsWeb shop']);
    expect(options()).toContain(`Billing / prod${en.shell.environment}`);
    await enterInto(input as HTMLInputElement, 'flag f');
    await waitFor(() => expect(options()).toContain('Flag f2key-f2 · Billing'));
    expect(options().slice(1, 3)).toEqual(['Flag f1key-f1 · Web shop', 'Flag f2key-f2 · Web shop']);
    screen.getByText(en.keyboard.found(5));
    expect(options()).toHaveLength(5);
    fireEvent.keyDown(input, { key: 'ArrowDown' });
    fireEvent.keyDown(input, { key: 'ArrowDown' });
    await rendered();
    fireEvent.keyDown(input, { key: 'Enter' });
    await showsPage('Flag f2', `${page}/f2`);
    expect(screen.queryByRole('combobox', { name: en.keyboard.palette })).toBeNull();
  });
});

describe('the language', () => {
  it('is that of the browser, and the one chosen in the menu stays', async () => {
    const languages = vi.spyOn(navigator, 'languages', 'get').mockReturnValue(['ru-RU', 'en']);
    const server = createServer();
    openConsole(page, server);
    await screen.findByRole('heading', { name: ru.shell.features });
    languages.mockRestore();
    expect(document.documentElement.lang).toBe('ru');
    await click(button(ru.shell.userMenu('alice')));
    await click(await screen.findByRole('radio', { name: 'English' }));
    await screen.findByRole('heading', { name: en.shell.features });
    expect([document.documentElement.lang, localStorage.getItem('flagcast.language')]).toEqual(['en', 'en']);
  });
});

describe('the announcer', () => {
  it('announces a burst as one sentence, and the same sentence again', async () => {
    const { server } = await openLive(page);
    const log = screen.getByRole('log');
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    const announced = async (): Promise<Element | null> => {
      vi.advanceTimersByTime(4_000);
      await rendered();
      return log.firstElementChild;
    };
    server.emit();
    server.emit();
    expect((await announced())?.textContent).toBe(en.shell.announce(2, 'bob'));
    server.emit();
    const first = await announced();
    expect(first?.textContent).toBe(en.shell.announce(1, 'bob'));
    server.emit();
    const second = await announced();
    // A screen reader reads only what is new in the page.
    expect(second?.textContent).toBe(en.shell.announce(1, 'bob'));
    expect(second).not.toBe(first);
  });
});
