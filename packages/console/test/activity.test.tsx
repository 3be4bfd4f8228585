import { fireEvent, screen, waitFor, within } from '@testing-library/dom';
import { describe, expect, it, onTestFinished, vi } from 'vitest';
import type { AuditEntry } from '../src/api/types.js';
import { en } from '../src/i18n/en.js';
import { button, click, createServer, openLive, serverActs } from './fixture/console.js';
import { auditEntry } from './fixture/data.js';
import type { ScriptedServer } from './fixture/scripted-server.js';

const page = '/p/shop/dev/activity';

/** The entries on the page: action, author and the newest value of each. */
const shown = (): string[] =>
  [...document.querySelectorAll<HTMLElement>('.fc-entry')].map((line) => {
    const value = line.querySelector('ins')?.textContent.replace('to ', '') ?? '';
    return [line.dataset['action'], line.querySelector('strong')?.textContent, value].join(' ').trim();
  });

async function shows(lines: readonly string[]): Promise<void> {
  await waitFor(() => expect(shown()).toEqual(lines));
}

const isPage = ({ path, search }: { path: string; search: URLSearchParams }): boolean =>
  path === '/api/audit' && !search.has('since');

/** Serves the history in pages of 50 entries; a cursor is the id of the last entry. */
function servePages(server: ScriptedServer, history: () => readonly AuditEntry[]): void {
  server.on('GET', /^\/api\/audit$/, ({ search }) => {
    const before = search.get('before');
    const start = before === null ? 0 : history().findIndex(({ id }) => id === before) + 1;
    const entries = history().slice(start, start + 50);
    const hasMore = start + 50 < history().length;
    const next = hasMore ? entries.at(-1)?.id : null;
    return { body: { entries, next: next ?? null, searched_until: null, index: null } };
  });
}

/** An hourly history, newest first; the value of an entry is its age. */
function hourly(count: number): AuditEntry[] {
  return Array.from({ length: count }, (_, index) =>
    auditEntry(`a${index}`, {
      created_at: new Date(Date.UTC(2026, 10, 28) - index * 3_600_000).toISOString().replace('Z', '000Z'),
      diff: [{ field: 'default_value', old: null, new: `value ${index}` }],
    }),
  );
}

describe('the activity', () => {
  it('loads older entries on demand, down to the first one', async () => {
    const server = createServer();
    servePages(server, () => hourly(120));
    await openLive(page, server);
    for (const count of [50, 100]) {
      await waitFor(() => expect(shown()).toHaveLength(count));
      await click(button(en.activity.older));
    }
    await screen.findByText(en.activity.end);
    expect(shown()).toEqual(Array.from({ length: 120 }, (_, index) => `updated bob value ${index}`));
  });

  it('adds the entry of an event, and of one of a long transaction among older ones', async () => {
    const server = createServer();
    const history = hourly(120);
    servePages(server, () => history);
    await openLive(page, server);
    await waitFor(() => expect(shown()).toHaveLength(50));
    await click(button(en.activity.older));
    await waitFor(() => expect(shown()).toHaveLength(100));
    const late = auditEntry('late', {
      created_at: '2026-11-25T12:30:00.000000Z',
      username: 'carol',
      diff: [],
    });
    const index = history.findIndex(({ created_at: at }) => (at ?? '') < (late.created_at ?? ''));
    history.splice(index, 0, late);
    // The first read of it fails.
    server.on('GET', /^\/api\/audit$/, () => {
      servePages(server, () => history);
      return { status: 503, body: { code: 'busy', message: '' } };
    });
    await serverActs(() => void server.emit({ timestamp: late.created_at ?? '' }));
    await waitFor(() => expect(shown()).toContain('updated carol'));
    expect(shown().indexOf('updated carol')).toBe(index);
    expect(shown()).toHaveLength(101);
  });

  it('keeps older entries that arrive together with a new one', async () => {
    const server = createServer();
    const history = hourly(120);
    servePages(server, () => history);
    await openLive(page, server);
    await waitFor(() => expect(shown()).toHaveLength(50));
    const answers: (() => void)[] = [];
    const undo = server.on('GET', /^\/api\/audit$/, async ({ search }) => {
      await new Promise<void>((resolve) => answers.push(resolve));
      const start = search.has('before') ? 50 : 0;
      const entries = history.slice(start, start + 50);
      return { body: { entries, next: entries.at(-1)?.id ?? null, searched_until: null, index: null } };
    });
    await serverActs(() => void server.emit({ timestamp: '2026-11-29T12:00:00.000000Z' }));
    await waitFor(() => expect(answers).toHaveLength(1));
    await click(button(en.activity.older));
    await waitFor(() => expect(answers).toHaveLength(2));
    undo();
    await serverActs(() => {
      for (const answer of answers) answer();
    });
    await waitFor(() => expect(shown()).toHaveLength(100));
  });

  it('shows a step of a request at once, and once', async () => {
    const server = createServer();
    server.audit = [auditEntry('audit:1:feature:f1:updated')];
    await openLive(page, server);
    await shows(['updated bob audit:1:feature:f1:updated']);
    const step = { source: 'pending', action: 'pending', row_id: 'r1', pending_change_id: 'r1' } as const;
    const event = server.emit(step);
    await waitFor(() => expect(shown()).toHaveLength(2));
    expect(shown()[0]).toBe('pending bob');
    // The history has it with its reason.
    server.audit = [
      auditEntry('pending:r1:feature:f1:pending', {
        source: 'pending',
        action: 'pending',
        created_at: event.timestamp,
        reason: 'The launch is today',
        diff: [],
      }),
      ...server.audit,
    ];
    server.emit();
    await screen.findByText('The launch is today');
    expect(shown()).toEqual(['pending bob', 'updated bob audit:1:feature:f1:updated']);
  });

  it('knows the time of a cancellation only if it received the event', async () => {
    const server = createServer();
    const cancelled = auditEntry('pending:r1:feature:f1:cancelled', {
      source: 'pending',
      action: 'cancelled',
      created_at: null,
      requested_at: '2026-11-29T09:00:00.000000Z',
      username: null,
      diff: [],
    });
    server.audit = [cancelled];
    await openLive(page, server);
    await screen.findByText(en.activity.timeUnknown);
    expect(shown()).toEqual([`cancelled ${en.activity.unknownUser}`]);
    await serverActs(
      () => void server.emit({ source: 'pending', action: 'cancelled', row_id: 'r1', actor: null }),
    );
    await waitFor(() => expect(screen.queryByText(en.activity.timeUnknown)).toBeNull());
    expect(shown()).toHaveLength(1);
  });

  it('shows edits of the same request as entries of their own', async () => {
    const { server } = await openLive(page);
    for (let edit = 1; edit <= 2; edit += 1) {
      server.emit({ source: 'pending', action: 'updated', row_id: 'r1', pending_change_id: 'r1' });
    }
    await shows(['request_updated bob', 'request_updated bob']);
  });

  it('filters by type and person, and suggests the authors', async () => {
    const server = createServer();
    const entries = [auditEntry('1'), auditEntry('2', { username: 'carol' })];
    server.on('GET', /^\/api\/audit$/, ({ search }) => {
      const by = search.get('username');
      const found = entries.filter(({ username }) => by === null || username === by);
      return { body: { entries: found, next: null, searched_until: null, index: null } };
    });
    await openLive(page, server);
    await waitFor(() => expect(shown()).toHaveLength(2));
    const person = screen.getByRole('combobox', { name: en.activity.personFilter });
    fireEvent.input(person, { target: { value: ' carol ' } });
    await waitFor(() => {
      const search = server.requests.findLast(isPage)?.search;
      expect([search?.get('username'), search?.get('entity')]).toEqual(['carol', null]);
    });
    await shows(['updated carol 2']);
    // A step of another person is not shown.
    await serverActs(() => void server.emit({ source: 'pending', action: 'pending', actor: 'bob' }));
    expect(shown()).toEqual(['updated carol 2']);
  });

  it('of all projects names the place of each entry, and a deleted flag leads to its history', async () => {
    const server = createServer();
    const deleted = { feature_id: 'gone', feature_name: 'Cart', feature_deleted: true };
    const all = [
      auditEntry('1', { ...deleted, action: 'deleted', environment: 'stage' }),
      auditEntry('2', { project_id: 'billing', project: 'Billing' }),
    ];
    server.on('GET', /^\/api\/audit$/, ({ search }) => {
      const isAll = search.get('projects') === 'all' || search.get('feature_id') === 'gone';
      return { body: { entries: isAll ? all : [], next: null, searched_until: null, index: null } };
    });
    await openLive(page, server);
    await screen.findByText(en.activity.empty);
    await click(screen.getByRole('combobox', { name: en.activity.scopeFilter }));
    await click(await screen.findByRole('option', { name: en.activity.allProjects }));
    await screen.findByText(en.activity.allProjectsSubtitle);
    await waitFor(() => expect(screen.getAllByRole('listitem')).toHaveLength(2));
    const [first, second] = screen.getAllByRole('listitem') as [HTMLElement, HTMLElement];
    within(first).getByText('Web shop / stage');
    within(first).getByText(en.activity.deletedFlag);
    within(second).getByText('Billing / dev');
    expect(within(second).queryByText(en.activity.deletedFlag)).toBeNull();
    await click(within(first).getByRole('link', { name: 'Cart' }));
    await waitFor(() =>
      expect([location.pathname, location.search]).toEqual(['/p/shop/stage/activity', '?feature_id=gone']),
    );
    await waitFor(() => expect(server.requests.findLast(isPage)?.search.get('feature_id')).toBe('gone'));
  });

  it('stands still while it is paused, counts the new events that the filter lets through, and reads them after it', async () => {
    const server = createServer();
    server.audit = [auditEntry('1')];
    await openLive(`${page}?username=bob`, server);
    await shows(['updated bob 1']);
    await click(button(en.activity.pause));
    server.audit = [auditEntry('2', { created_at: '2026-11-29T11:00:00.000000Z' }), ...server.audit];
    const reads = server.requests.filter(isPage).length;
    await serverActs(() => {
      server.emit();
      server.emit({ source: 'pending', action: 'pending', row_id: 'r1' });
      server.emit({ actor: 'carol' });
    });
    await screen.findByRole('button', { name: en.activity.resume(2) });
    expect(shown()).toEqual(['updated bob 1']);
    expect(server.requests.filter(isPage)).toHaveLength(reads);
    await click(button(en.activity.resume(2)));
    await waitFor(() => expect(shown()).toContain('updated bob 2'));
    expect(shown()).toHaveLength(3);
  });

  it('reads at most once a second while events arrive, and nothing for events that the filter excludes', async () => {
    const server = createServer();
    server.audit = [auditEntry('1')];
    await openLive(`${page}?username=bob`, server);
    await shows(['updated bob 1']);
    const reads = (): number => server.requests.filter(isPage).length;
    let before = reads();
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'requestAnimationFrame'] });
    onTestFinished(() => void vi.useRealTimers());
    const emitAfter = async (pauseMs: number, actor: string): Promise<number> => {
      await vi.advanceTimersByTimeAsync(pauseMs);
      await serverActs(() => void server.emit({ actor }));
      return reads() - before;
    };
    await emitAfter(0, 'bob');
    // At once, or when the second of a read of the page has passed, which is one of the real clock.
    await expect.poll(() => reads() - before, { timeout: 60_000 }).toBe(1);
    before = reads();
    for (const pauseMs of [300, 300, 300]) expect(await emitAfter(pauseMs, 'bob')).toBe(0);
    expect(await emitAfter(200, 'carol')).toBe(1);
    expect(await emitAfter(5_000, 'carol')).toBe(1);
  });

  it('shows why it could not be read, and reads again on request', async () => {
    const server = createServer();
    server.on('GET', /^\/api\/audit$/, () => ({
      status: 503,
      headers: { 'Retry-After': '3600' },
      body: { code: 'busy', message: 'of the server' },
    }));
    await openLive(page, server);
    await screen.findByText(en.errors.busy);
    expect(screen.queryByText(en.activity.empty)).toBeNull();
    expect(screen.queryByText(en.activity.end)).toBeNull();
    servePages(server, () => [auditEntry('1')]);
    await click(button(en.shell.tryAgain));
    await shows(['updated bob 1']);
    expect(screen.queryByText(en.errors.busy)).toBeNull();
  });

  it('recovers without a reload when the database responds again', async () => {
    const server = createServer();
    server.audit = [auditEntry('1')];
    server.refuse('GET', /^\/api\/audit$/, 503, { code: 'unavailable' });
    await openLive(page, server);
    await screen.findByText(en.errors.unavailable);
    servePages(server, () => server.audit);
    await shows(['updated bob 1']);
    expect(screen.queryByText(en.errors.unavailable)).toBeNull();
  });

  it('says how far back it has searched, and continues on demand', async () => {
    const server = createServer();
    server.on('GET', /^\/api\/audit$/, ({ search }) => {
      const read = Number(search.get('before') ?? 0);
      const until = '2026-11-01T10:00:00.000000Z';
      return {
        body:
          read < 10
            ? { entries: [], next: String(read + 1), searched_until: until, index: null }
            : { entries: [auditEntry('1')], next: null, searched_until: null, index: null },
      };
    });
    await openLive(page, server);
    await screen.findByText(/^Searched back to /);
    await click(button(en.activity.searchFurther));
    await shows(['updated bob 1']);
    await screen.findByText(en.activity.end);
  });

  it('says that a value is too large to show', async () => {
    const server = createServer();
    server.audit = [auditEntry('1', { truncated: true, diff: [] })];
    await openLive(page, server);
    within((await screen.findAllByRole('listitem'))[0] ?? document.body).getByText(en.activity.truncated);
  });
});
