import { screen, waitFor, within } from '@testing-library/dom';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { en } from '../src/i18n/en.js';
import {
  button,
  click,
  closeConsole,
  createServer,
  openConsole,
  openLive,
  serverActs,
} from './fixture/console.js';
import { openChange } from './fixture/data.js';
import { rendered } from './fixture/rendered.js';
import type { ScriptedServer } from './fixture/scripted-server.js';

const flags = '/p/shop/dev/features';

const rejected = openChange('r9', {
  requested_by: 'alice',
  own: true,
  may_decide: false,
  status: 'rejected',
  decided_by: 'root',
  decided_at: new Date().toISOString(),
  decision_reason: 'Not before Monday',
});

/** Answers the details of the request, with these steps. */
function detail(server: ScriptedServer, change: ReturnType<typeof openChange>, steps: object[] = []): void {
  server.on('GET', /^\/api\/pending-changes\/r/, () => ({ body: { ...change, steps } }));
}

describe('the page of a request', () => {
  it('has a permanent address, shows what it changes, who asked and all its steps with person and reason', async () => {
    const server = createServer();
    detail(server, { ...rejected, requester_active: false }, [
      { action: 'pending', at: rejected.created_at, by: 'alice', reason: 'The launch is today' },
      { action: 'rejected', at: rejected.decided_at, by: 'root', reason: 'Not before Monday' },
    ]);
    await openLive('/approvals/r9', server);
    const card = await screen.findByRole('article');
    within(card).getByText(en.approvals.decided.rejected('root'));
    within(card).getByText(en.approvals.requesterInactive);
    // In the environment of the request, not in the first one.
    expect(location.pathname).toBe('/p/shop/prod/approvals/r9');
    const steps = within(screen.getByRole('region', { name: en.feature.history })).getAllByRole('listitem');
    expect(steps.map((step) => step.textContent)).toEqual([
      expect.stringMatching(/^alicerequested a change.*The launch is today$/),
      expect.stringMatching(/^rootrejected.*Not before Monday$/),
    ]);
    const links = within(card).getAllByRole('link');
    expect(links.map((link) => link.getAttribute('href'))).toContain('/approvals/r9');
  });

  it('shows three values where the flag has another one than when it was requested, and follows the feed', async () => {
    const server = createServer();
    const [entity] = openChange('r1').entities;
    if (entity === undefined) throw new Error('no entity');
    const moved = openChange('r1', {
      entities: [{ ...entity, diff: [{ field: 'default_value', old: 'a', new: 'c', current: 'b' }] }],
    });
    server.openChanges = [moved];
    detail(server, moved);
    await openLive('/p/shop/dev/approvals/r1', server);
    const card = await screen.findByRole('article');
    expect(card.textContent).toContain(
      `${en.approvals.whenRequested} a${en.approvals.now} b${en.approvals.after} c`,
    );
    const decided = { ...moved, version: '2', status: 'approved', decided_by: 'root' };
    detail(server, decided);
    await serverActs(() => server.step('approved', decided, 'root'));
    await within(card).findByText(en.approvals.decided.approved('root'));
    expect(within(card).queryByRole('button')).toBeNull();
    expect(server.paths('GET').filter((path) => path.endsWith('/r1'))).toHaveLength(2);
  });

  it('says that it does not know a request', async () => {
    const server = createServer();
    server.refuse('GET', /^\/api\/pending-changes\//, 404, { code: 'unknown_change' });
    await openLive('/approvals/nothing', server);
    await screen.findByText(en.approvals.notFound);
  });
});

it('the decided requests are listed a page at a time, at an address of their own', async () => {
  const server = createServer();
  server.on('GET', /^\/api\/pending-changes$/, ({ search }) => ({
    body: {
      pending_changes: [{ ...rejected, id: search.get('before') ?? 'first' }],
      next: search.has('before') ? null : 'second',
    },
  }));
  await openLive('/p/shop/dev/approvals?show=decided', server);
  await screen.findByRole('article');
  await click(button(en.approvals.older));
  await waitFor(() => expect(screen.getAllByRole('article')).toHaveLength(2));
  expect(screen.queryByRole('button', { name: en.approvals.older })).toBeNull();
});

describe('the bell', () => {
  it('has the decision on an own request with its reason after days away, and remembers what was seen', async () => {
    const server = createServer();
    server.openChanges = [rejected, openChange('r1'), openChange('r2', { project_id: 'billing' })];
    await openLive(flags, server);
    await click(await screen.findByRole('button', { name: en.approvals.bell(2) }));
    // The list is loaded when it is opened for the first time.
    await waitFor(() => expect(document.title).toMatch(/^Flags/));
    const list = (await screen.findAllByRole('listitem')).map((each) => each.textContent);
    expect(list).toHaveLength(2);
    expect(list[0]).toMatch(/^Flag f1: Rejected by root.*Not before Monday$/);
    expect(list[1]).toMatch(new RegExp(`^${en.approvals.cardLabel('bob', 'Flag f1')}`));
    const key = 'flagcast.seen 1';
    const seen = localStorage.getItem(key) ?? '';
    closeConsole();
    localStorage.setItem(key, seen);
    openConsole(flags, server);
    await screen.findByRole('button', { name: en.approvals.bell(0) });
  });

  it('counts in the title what the user has not seen', async () => {
    const server = createServer();
    await openLive(flags, server);
    await serverActs(() => server.step('pending', openChange('r1')));
    await waitFor(() => expect(document.title).toMatch(/^\(1\) Flags/));
  });
});

describe('notifications of the browser', () => {
  afterEach(() => vi.restoreAllMocks());

  it('are shown once the user has switched them on, while the user looks elsewhere', async () => {
    const shown: string[] = [];
    class FakeNotification extends EventTarget {
      static readonly permission = 'granted';
      static readonly requestPermission = async (): Promise<string> => await Promise.resolve('granted');
      constructor(title: string, { body }: { readonly body: string }) {
        super();
        shown.push(`${title} – ${body}`);
      }
    }
    const server = createServer();
    await openLive(flags, server);
    vi.stubGlobal('Notification', FakeNotification);
    vi.spyOn(document, 'hasFocus').mockReturnValue(false);
    await serverActs(() => server.step('pending', openChange('r1')));
    expect(shown).toEqual([]);
    await click(button(en.approvals.bell(1)));
    await click(await screen.findByLabelText(en.approvals.notifyMe));
    await rendered();
    await serverActs(() => {
      server.step('rejected', rejected, 'root');
      server.step('pending', openChange('r3', { project_id: 'billing' }));
    });
    await waitFor(() => expect(shown).toEqual(['Flag f1: Rejected by root – Not before Monday']));
  });

  it('do not make the page ask the browser for its permission with each event', async () => {
    const asked = vi.fn(() => 'default');
    const server = createServer();
    class FakeNotification extends EventTarget {
      static get permission(): string {
        return asked();
      }
    }
    vi.stubGlobal('Notification', FakeNotification);
    await openLive(flags, server);
    await serverActs(() => server.step('pending', openChange('r1')));
    await screen.findByRole('button', { name: en.approvals.bell(1) });
    expect(asked).not.toHaveBeenCalled();
  });
});
