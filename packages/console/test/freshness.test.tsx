import { screen, waitFor, within } from '@testing-library/dom';
import { describe, expect, it, vi } from 'vitest';
import { en } from '../src/i18n/en.js';
import { createFormat } from '../src/i18n/format.js';
import {
  button,
  click,
  createServer,
  openConsole,
  openLive,
  serverActs,
  waitUntilLive,
} from './fixture/console.js';

const page = '/p/shop/dev/features';
const since = '2026-01-02T12:34:56.000Z';

async function openDrawer(note = ''): Promise<HTMLElement> {
  await click(button(en.freshness.chip(`${en.freshness.states.live}${note}`)));
  return await screen.findByRole('dialog', { name: en.freshness.title });
}

/** The value of a fact in the drawer. */
function factOf(drawer: HTMLElement, name: string): string | undefined {
  return within(drawer).getByText(name).closest('tr')?.querySelector('td')?.textContent;
}

describe('a stale server', () => {
  it.each(['database_unreachable', 'triggers_missing'] as const)(
    'shows its reason and disables the switches: %s',
    async (reason) => {
      const { server } = await openLive(page);
      const control = await screen.findByRole<HTMLInputElement>('switch');
      expect(control.getAttribute('aria-disabled')).toBe('false');
      await serverActs(() => server.broadcast({ type: 'freshness', state: 'stale', since, reason }));
      const text = en.freshness.staleReasons[reason];
      await screen.findByText((shown) => shown.startsWith(text) && shown.includes(':34'));
      await waitFor(() => expect(control.getAttribute('aria-disabled')).toBe('true'));
      expect(document.documentElement.hasAttribute('data-stale')).toBe(true);
      await serverActs(() => server.broadcast({ type: 'freshness', state: 'fresh' }));
      await waitUntilLive();
      expect(screen.queryByText((shown) => shown.startsWith(text))).toBeNull();
      await waitFor(() => expect(control.getAttribute('aria-disabled')).toBe('false'));
      // The connection was never lost.
      expect(factOf(await openDrawer(), en.freshness.reconnects)).toBe('0');
    },
  );
});

it('the time of a stale page is that of the server, also where the clock of the browser is behind', async () => {
  const behindMs = Date.parse(since) - 7_200_000;
  vi.useFakeTimers({ now: behindMs, toFake: ['Date'] });
  const { server } = await openLive(page);
  const heartbeat = { type: 'heartbeat', timestamp: since, cursor: 'c1', as_of: since } as const;
  await serverActs(() => {
    server.broadcast(heartbeat);
    server.isDown = true;
    server.drop();
  });
  const time = createFormat('en', en.time).time(Date.parse(since));
  await screen.findByText(en.freshness.staleBanner(en.freshness.staleReasons.disconnected, time));
});

describe('a lost connection', () => {
  it('makes the page stale, and the page reconnects and catches up', async () => {
    const { server } = await openLive(page);
    await screen.findByRole('switch');
    await serverActs(() => {
      server.isDown = true;
      server.drop();
    });
    await screen.findByText((text) => text.startsWith(en.freshness.staleReasons.disconnected));
    server.isDown = false;
    dispatchEvent(new Event('online'));
    await waitUntilLive();
    const drawer = await openDrawer();
    expect(factOf(drawer, en.freshness.reconnects)).toBe('1');
  });
});

describe('the drawer', () => {
  it('shows the time of each delivery, newest first', async () => {
    const { server } = await openLive(page);
    const drawer = await openDrawer();
    within(drawer).getByText(en.freshness.noEvents);
    const committed = new Date(Date.now() - 1_000).toISOString();
    await serverActs(() => {
      server.emit({ committed_at: committed, seen_at: committed });
      server.emit({ committed_at: null, feature_id: 'gone' });
    });
    const rows = await waitFor(() => {
      const found = [...drawer.querySelectorAll('.fc-numbers tbody tr')];
      expect(found).toHaveLength(2);
      return found;
    });
    expect(rows[0]?.textContent).toContain(en.approvals.deletedFeature);
    // The database recorded no time of the commit.
    expect(rows[0]?.textContent).toContain('–');
    expect(rows[1]?.textContent).toContain('Flag f1');
    expect(factOf(drawer, en.freshness.guarantee)).toContain(en.freshness.exact);
  });

  it('explains the guarantee of a server that finds events by their time', async () => {
    const server = createServer();
    server.hello = { guarantee: 'overlap', guarantee_reason: 'view', overlap_ms: 45_000 };
    openConsole(page, server);
    const name = en.freshness.chip(`${en.freshness.states.live} ${en.freshness.overlapNote(45)}`);
    await click(await screen.findByRole('button', { name }));
    const drawer = await screen.findByRole('dialog');
    const { overlap, reasons } = en.freshness;
    expect(factOf(drawer, en.freshness.guarantee)).toBe(`${overlap(45)} ${reasons.view}`);
  });
});

describe('a database with live events only', () => {
  it('says so on every page, shows the events, and repeats no refused request', async () => {
    const server = createServer();
    server.hello = { embedded_state: false };
    for (const path of [/^\/api\/audit$/, /^\/api\/features/]) {
      server.refuse('GET', path, 501, { code: 'not_available' });
    }
    await openLive(page, server);
    await screen.findByText(en.liveOnly.title);
    const [link] = screen.getAllByRole('link', { name: en.shell.approvals });
    await click(link ?? document.body);
    await screen.findByRole('heading', { name: en.shell.approvals });
    await screen.findByText(en.liveOnly.title);
    await click(screen.getByRole('link', { name: en.liveOnly.activity }));
    await screen.findByText(en.liveOnly.sinceOpened);
    await serverActs(() => {
      server.emit({ entity_id: 'flag-1', feature_id: null });
      server.emit({ entity_id: 'flag-2', feature_id: null, action: 'deleted' });
    });
    await screen.findByText('flag-2');
    const lines = screen.getAllByRole('listitem').map((line) => line.dataset['action']);
    expect(lines).toEqual(['deleted', 'updated']);
    expect(screen.queryByRole('alert')).toBeNull();
    const audits = server.requests.filter((each) => each.path === '/api/audit' && !each.search.has('since'));
    expect(audits).toHaveLength(1);
  });
});
