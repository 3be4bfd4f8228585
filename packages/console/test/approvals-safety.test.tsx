import { screen, waitFor, within } from '@testing-library/dom';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { en } from '../src/i18n/en.js';
import {
  button,
  click,
  closeConsole,
  createServer,
  enter,
  openConsole,
  openLive,
  serverActs,
} from './fixture/console.js';
import { environment, openChange, project } from './fixture/data.js';
import type { ScriptedServer } from './fixture/scripted-server.js';

const page = '/p/shop/dev/approvals';
const flags = '/p/shop/dev/features';

/** A request that can be approved without a confirmation. */
const first = openChange('r1', { environment_id: 'stage', environment: 'stage' });
const second = openChange('r2', { environment_id: 'stage', environment: 'stage', requested_by: 'carol' });
const ownRejected = openChange('r9', {
  requested_by: 'alice',
  own: true,
  may_decide: false,
  status: 'rejected',
  decided_by: 'root',
  decided_at: new Date().toISOString(),
});

afterEach(() => {
  vi.restoreAllMocks();
  vi.unstubAllGlobals();
});

async function card(by = 'bob'): Promise<HTMLElement> {
  return await screen.findByRole('article', { name: en.approvals.cardLabel(by, 'Flag f1') });
}

/** The scope of the feed has changed: the client takes a new snapshot. */
async function rescope(server: ScriptedServer): Promise<void> {
  await serverActs(() => server.broadcast({ type: 'resync', feed: 'approvals', reason: 'scope_changed' }));
}

function approvalsOf(server: ScriptedServer): string[] {
  return server.paths('POST').filter((path) => path.endsWith('/approve'));
}

describe('an approval', () => {
  it('asks if its environment has been guarded since the page knows it', async () => {
    const server = createServer();
    server.openChanges = [first];
    await openLive(page, server);
    const shown = await card();
    server.projects = [
      project('shop', 'Web shop', [
        environment('dev'),
        environment('stage', true),
        environment('prod', true),
      ]),
    ];
    await click(button(en.approvals.approve, shown));
    await screen.findByRole('dialog', { name: en.approvals.approveTitle });
    expect(approvalsOf(server)).toEqual([]);
  });

  it('asks if it cannot find out whether its environment is guarded, and sends nothing later by itself', async () => {
    const server = createServer();
    server.openChanges = [first];
    await openLive(page, server);
    const shown = await card();
    const answer = server.refuse('GET', /^\/api\/projects$/, 503, { code: 'unavailable' });
    await click(button(en.approvals.approve, shown));
    await click(
      button(en.shell.cancel, await screen.findByRole('dialog', { name: en.approvals.approveTitle })),
    );
    answer();
    await click(screen.getAllByRole('link', { name: en.shell.features })[0] ?? document.body);
    await screen.findByRole('heading', { name: en.shell.features });
    expect(approvalsOf(server)).toEqual([]);
  });

  it('asks if its environment is not known, and names the project once that is', async () => {
    const server = createServer();
    server.openChanges = [
      openChange('r1', { project_id: 'new', environment_id: 'eu', environment: 'eu-live' }),
    ];
    server.mayDecide = ['shop', 'new'];
    await openLive(page, server);
    await click(button(en.approvals.approve, await card()));
    await click(button(en.shell.cancel, await screen.findByRole('dialog')));
    server.projects = [...server.projects, project('new', 'New shop', [environment('eu-live', false, 'eu')])];
    await rescope(server);
    await within(await card()).findByText('New shop / eu-live');
  });
});

describe('the list of requests', () => {
  it('keeps in its place what the feed has forgotten, without buttons, and says so', async () => {
    const server = createServer();
    server.openChanges = [first, second];
    await openLive(page, server);
    await card('carol');
    const before = screen.getAllByRole('article').map(({ ariaLabel }) => ariaLabel);
    server.openChanges = [second];
    await rescope(server);
    const forgotten = await card();
    await within(forgotten).findByText(en.approvals.decided.gone());
    expect(within(forgotten).queryByRole('button')).toBeNull();
    expect(screen.getAllByRole('article').map(({ ariaLabel }) => ariaLabel)).toEqual(before);
  });

  it('offers a new request although nothing that it shows is pending any more', async () => {
    const server = createServer();
    server.openChanges = [first];
    await openLive(page, server);
    await card();
    server.openChanges = [];
    await rescope(server);
    await within(await card()).findByText(en.approvals.decided.gone());
    await serverActs(() => server.step('pending', second, 'carol'));
    await click(await screen.findByRole('button', { name: en.approvals.showNew(1) }));
    await card('carol');
    expect(screen.getAllByRole('article')).toHaveLength(1);
  });

  it('of decided requests shows the newest state of each, and offers what was decided since', async () => {
    const server = createServer();
    server.openChanges = [ownRejected, first];
    server.on('GET', /^\/api\/pending-changes$/, () => ({
      body: { pending_changes: [ownRejected], next: null },
    }));
    await openLive(`${page}?show=decided`, server);
    const shown = await card('alice');
    const decision = await within(shown).findByRole('status');
    within(decision).getByText(en.approvals.decided.rejected('root'));
    expect(decision.querySelector('time')?.dateTime).toBe(ownRejected.decided_at);
    await serverActs(() => {
      server.step('approved', { ...first, version: '2', status: 'approved', decided_by: 'root' }, 'root');
      server.step('pending', { ...ownRejected, version: '2', status: 'pending', decided_by: null }, 'root');
    });
    await within(shown).findByText(en.approvals.outdated);
    await screen.findByRole('button', { name: en.approvals.showNew(1) });
  });
});

describe('the dialog of a rejection', () => {
  it('does not come back when the request that was decided meanwhile is reopened', async () => {
    const server = createServer();
    server.openChanges = [first];
    await openLive(page, server);
    await click(button(en.approvals.reject, await card()));
    await screen.findByRole('dialog');
    await serverActs(() => server.step('approved', { ...first, version: '2', status: 'approved' }, 'root'));
    await waitFor(() => expect(screen.queryByRole('dialog')).toBeNull());
    await serverActs(() => server.step('pending', { ...first, version: '3' }, 'root'));
    await click(await within(await card()).findByRole('button', { name: en.approvals.showNow }));
    await within(await card()).findByRole('button', { name: en.approvals.reject });
    expect(screen.queryByRole('dialog')).toBeNull();
  });
});

describe('the page of a request', () => {
  it.each(['R1', 'r1'])('follows the rights of the user, at the address of %s', async (id) => {
    const server = createServer();
    server.openChanges = [first];
    server.on('GET', /^\/api\/pending-changes\/r1$/i, () => ({ body: { ...first, steps: [] } }));
    await openLive(`/p/shop/dev/approvals/${id}`, server);
    await within(await card()).findByRole('button', { name: en.approvals.approve });
    server.mayDecide = [];
    await rescope(server);
    await within(await card()).findByText(en.approvals.managersOnly);
    expect(within(await card()).queryByRole('button', { name: en.approvals.approve })).toBeNull();
  });

  it('has no buttons once the user may not see the request, and says that it is not there', async () => {
    const server = createServer();
    server.openChanges = [first];
    server.on('GET', /^\/api\/pending-changes\/r1$/, () => ({ body: { ...first, steps: [] } }));
    await openLive('/p/shop/dev/approvals/r1', server);
    await card();
    server.openChanges = [];
    server.refuse('GET', /^\/api\/pending-changes\/r1$/, 404, { code: 'unknown_change' });
    await rescope(server);
    await screen.findByText(en.approvals.notFound);
    expect(screen.queryByRole('article')).toBeNull();
  });
});

describe('the bell', () => {
  it('shows a requester that another user has cancelled the request', async () => {
    const server = createServer();
    await openLive(flags, server);
    const cancelled = { ...ownRejected, status: 'cancelled', decided_by: 'root' };
    await serverActs(() => server.step('cancelled', cancelled, 'root'));
    await click(await screen.findByRole('button', { name: en.approvals.bell(1) }));
    await screen.findByText(`Flag f1: ${en.approvals.decided.cancelled('root')}`);
  });

  it('marks as seen only what it lists, and lists the rest on demand', async () => {
    const server = createServer();
    server.openChanges = Array.from({ length: 40 }, (_, index) => openChange(`r${index}`));
    await openLive(flags, server);
    await click(await screen.findByRole('button', { name: en.approvals.bell(40) }));
    await screen.findByRole('button', { name: en.approvals.bell(10) });
    expect(screen.getAllByRole('listitem')).toHaveLength(30);
    await click(button(en.approvals.moreConcerns));
    await screen.findByRole('button', { name: en.approvals.bell(0) });
    expect(screen.getAllByRole('listitem')).toHaveLength(40);
  });

  it('does not count as seen what arrives while the page is hidden', async () => {
    const server = createServer();
    await openLive(flags, server);
    await click(button(en.approvals.bell(0)));
    const visibility = vi.spyOn(document, 'visibilityState', 'get').mockReturnValue('hidden');
    document.dispatchEvent(new Event('visibilitychange'));
    await serverActs(() => server.step('pending', first));
    await screen.findByRole('button', { name: en.approvals.bell(1) });
    visibility.mockReturnValue('visible');
    document.dispatchEvent(new Event('visibilitychange'));
    await screen.findByRole('button', { name: en.approvals.bell(0) });
  });

  it('keeps what another tab has seen, and survives what it cannot read', async () => {
    const server = createServer();
    server.openChanges = [first];
    localStorage.setItem('flagcast.seen 1', '{"a":1}');
    openConsole(flags, server);
    await click(await screen.findByRole('button', { name: en.approvals.bell(1) }));
    await screen.findByRole('button', { name: en.approvals.bell(0) });
    const seen = JSON.parse(localStorage.getItem('flagcast.seen 1') ?? '') as string[];
    closeConsole();
    localStorage.setItem('flagcast.seen 1', JSON.stringify([...seen, 'of another tab']));
    server.openChanges = [first, second];
    openConsole(flags, server);
    await click(await screen.findByRole('button', { name: en.approvals.bell(1) }));
    await screen.findByRole('button', { name: en.approvals.bell(0) });
    expect(localStorage.getItem('flagcast.seen 1')).toContain('of another tab');
  });

  it('survives a browser that has notifications only for service workers', async () => {
    class Forbidden {
      static readonly permission = 'granted';
      constructor() {
        throw new TypeError('Illegal constructor');
      }
    }
    vi.stubGlobal('Notification', Forbidden);
    vi.spyOn(document, 'hasFocus').mockReturnValue(false);
    localStorage.setItem('flagcast.notify 1', 'true');
    const server = createServer();
    await openLive(flags, server);
    await serverActs(() => server.step('pending', first));
    await screen.findByRole('button', { name: en.approvals.bell(1) });
  });
});

it('an edit that cannot be stored stays in its form', async () => {
  const server = createServer();
  server.openChanges = [first];
  await openLive(page, server);
  await click(button(en.approvals.reject, await card()));
  const dialog = await screen.findByRole('dialog');
  vi.spyOn(Storage.prototype, 'setItem').mockImplementation(() => {
    throw new DOMException('full', 'QuotaExceededError');
  });
  await enter(en.approvals.reason, 'Not on Fridays', dialog);
  expect(within(dialog).getByLabelText<HTMLTextAreaElement>(new RegExp(en.approvals.reason)).value).toBe(
    'Not on Fridays',
  );
});
