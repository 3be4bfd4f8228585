import { fireEvent, screen, waitFor, within } from '@testing-library/dom';
import { describe, expect, it } from 'vitest';
import { en } from '../src/i18n/en.js';
import {
  button,
  click,
  createServer,
  enter,
  enterInto,
  openConsole,
  openLive,
  serverActs,
} from './fixture/console.js';
import { openChange, project, environment } from './fixture/data.js';
import { rendered } from './fixture/rendered.js';
import type { ScriptedServer } from './fixture/scripted-server.js';

const page = '/p/shop/dev/approvals';

/** A server with a request of bob for the flag f1, in an environment whose approvals need no confirmation. */
function serverWithRequest(changes: Parameters<typeof openChange>[1] = {}): ScriptedServer {
  const server = createServer();
  server.openChanges = [openChange('r1', { environment_id: 'stage', ...changes })];
  return server;
}

/** Sends a step of the request. */
async function sendStep(
  server: ScriptedServer,
  action: string,
  actor: string | null,
  changes: Parameters<typeof openChange>[1] = {},
): Promise<void> {
  const [change] = server.openChanges;
  if (change === undefined) throw new Error('no request');
  const status = action === 'updated' ? 'pending' : action;
  await serverActs(() => {
    server.step(action, { ...change, version: '2', status, decided_by: actor, ...changes }, actor);
  });
}

/** The request r1 with another value than in the fixture. */
function edited(version: string): Parameters<typeof openChange>[1] {
  const { entities } = openChange('r1');
  return {
    environment_id: 'stage',
    version,
    entities: entities.map((entity) => ({
      ...entity,
      diff: [...entity.diff, { field: 'default_value', old: 'off', new: 'edited' }],
    })),
  };
}

async function card(by = 'bob'): Promise<HTMLElement> {
  return await screen.findByRole('article', { name: en.approvals.cardLabel(by, 'Flag f1') });
}

/** Presses the pointer on the element; the returned function releases it, which clicks. */
function press(element: HTMLElement): () => Promise<void> {
  fireEvent.pointerDown(element);
  return async () => {
    fireEvent.click(element, { detail: 1 });
    await rendered();
  };
}

/** The versions of the request that a decision sends back. */
const seen = { version: '1', feature_versions: { f1: 'v1' } };

describe('a request', () => {
  it('shows who asks for what and why, in its environment', async () => {
    await openLive(page, serverWithRequest({ environment_id: 'prod' }));
    const shown = within(await card());
    for (const text of ['Web shop / prod', 'The launch is today']) expect(shown.getByText(text)).toBeTruthy();
    const diff = shown.getByText(en.fields.enabled).parentElement;
    expect(diff?.textContent).toContain(en.features.on);
    expect(shown.getByRole('link', { name: 'Flag f1' }).getAttribute('href')).toBe(
      '/p/shop/prod/features/f1',
    );
  });

  it('names the flag of each entity if there are several', async () => {
    const [entity] = openChange('r1').entities;
    if (entity === undefined) throw new Error('no entity');
    const other = { ...entity, entity_id: 'f2', feature_id: 'f2', feature_name: 'Flag f2' };
    await openLive(page, serverWithRequest({ entities: [entity, other] }));
    expect((await card()).textContent).toContain('flag · Flag f2');
  });

  it('is approved with one click where that changes no production environment', async () => {
    const { server } = await openLive(page, serverWithRequest());
    server.on('POST', /\/approve$/, () => ({ body: {} }));
    await click(button(en.approvals.approve, await card()));
    await screen.findByText(en.approvals.done.approve);
    expect(server.paths('POST')).toEqual(['/api/pending-changes/r1/approve']);
    await sendStep(server, 'approved', 'alice');
    within(await card()).getByText(en.approvals.decided.approved('alice'));
  });

  it('for a guarded environment is approved only after a confirmation that names flag, environment and change', async () => {
    const { server } = await openLive(page, serverWithRequest({ environment_id: 'prod' }));
    server.on('POST', /\/approve$/, () => ({ body: {} }));
    await click(button(en.approvals.approve, await card()));
    const dialog = await screen.findByRole('dialog', { name: en.approvals.approveTitle });
    within(dialog).getByText(en.approvals.confirm('Flag f1', 'Web shop', 'Production'));
    within(dialog).getByText(en.fields.enabled);
    expect(server.paths('POST')).toEqual([]);
    await click(button(en.approvals.approve, dialog));
    await screen.findByText(en.approvals.done.approve);
    expect(server.requests.find(({ method }) => method === 'POST')?.body).toEqual(seen);
  });

  it('is rejected only with a reason', async () => {
    const { server } = await openLive(page, serverWithRequest());
    server.on('POST', /\/reject$/, () => ({ body: {} }));
    await click(button(en.approvals.reject, await card()));
    const dialog = await screen.findByRole('dialog', { name: en.approvals.rejectTitle });
    expect(button(en.approvals.reject, dialog).disabled).toBe(true);
    await enter(en.approvals.reason, ' Not before Monday ', dialog);
    await click(button(en.approvals.reject, dialog));
    await screen.findByText(en.approvals.done.reject);
    expect(server.requests.find(({ method }) => method === 'POST')?.body).toEqual({
      ...seen,
      reason: 'Not before Monday',
    });
    expect(screen.queryByRole('dialog')).toBeNull();
  });

  it('closes its dialog and has no buttons any more when another user decides', async () => {
    const { server } = await openLive(page, serverWithRequest());
    await click(button(en.approvals.reject, await card()));
    await screen.findByRole('dialog', { name: en.approvals.rejectTitle });
    await sendStep(server, 'rejected', 'root', { decision_reason: 'Not before Monday' });
    const decided = within(await card());
    decided.getByText(en.approvals.decided.rejected('root'));
    decided.getByText('Not before Monday');
    expect(screen.queryByRole('dialog')).toBeNull();
    expect(decided.queryByRole('button')).toBeNull();
  });

  it('shows that its requester has cancelled it', async () => {
    const { server } = await openLive(page, serverWithRequest());
    await card();
    await sendStep(server, 'cancelled', null);
    within(await card()).getByText(en.approvals.decided.cancelled(null));
    expect(within(await card()).queryByRole('button')).toBeNull();
  });

  it('can be decided again when it is reopened, once the user has looked at it', async () => {
    const { server } = await openLive(page, serverWithRequest());
    await card();
    await sendStep(server, 'cancelled', null);
    await sendStep(server, 'pending', 'bob', { version: '3', status: 'pending' });
    await click(button(en.approvals.showNow, await card()));
    expect(button(en.approvals.approve, await card()).disabled).toBe(false);
  });

  it('says who was faster if it is decided already', async () => {
    const { server } = await openLive(page, serverWithRequest());
    server.refuse('POST', /\/approve$/, 409, { code: 'already_decided', status: 'rejected', by: 'root' });
    await click(button(en.approvals.approve, await card()));
    await screen.findByText(en.approvals.alreadyDecided(en.approvals.decided.rejected('root')));
  });

  it('names the fields that have changed since, and shows their values when requested, now and after', async () => {
    const { server } = await openLive(page, serverWithRequest(edited('1')));
    const conflicts = [{ entity_id: 'f1', field: 'default_value', current: 'of others' }];
    server.refuse('POST', /\/approve$/, 409, { code: 'conflict', conflicts });
    await click(button(en.approvals.approve, await card()));
    await screen.findByText(en.approvals.conflictWith(en.fields.default_value));
    const value = within(await card()).getByText(en.fields.default_value).parentElement;
    expect(value?.textContent).toBe(
      `${en.fields.default_value}${en.approvals.whenRequested} off${en.approvals.now} of others${en.approvals.after} edited`,
    );
  });

  it('asks for the password again after a wrong one', async () => {
    const server = serverWithRequest();
    server.me = { ...server.me, decisions: 'password' };
    await openLive(page, server);
    server.refuse('POST', /\/approve$/, 403, { code: 'password_wrong' });
    await click(button(en.approvals.approve, await card()));
    const dialog = await screen.findByRole('dialog', { name: en.approvals.approveTitle });
    const password = within(dialog).getByLabelText<HTMLInputElement>(en.signIn.password, {
      selector: 'input',
    });
    await enterInto(password, 'a guess');
    await click(button(en.approvals.approve, dialog));
    await screen.findByText(en.errors.password_wrong);
    server.on('POST', /\/approve$/, () => ({ body: {} }));
    await enterInto(password, 'alice-demo');
    await click(button(en.approvals.approve, dialog));
    await screen.findByText(en.approvals.done.approve);
    const sent = server.requests.filter(({ method }) => method === 'POST').map(({ body }) => body);
    expect(sent).toEqual([
      { ...seen, password: 'a guess' },
      { ...seen, password: 'alice-demo' },
    ]);
    expect(screen.queryByRole('dialog')).toBeNull();
  });

  it.each([
    ['own request', { requested_by: 'alice' }, {}, ['shop'], en.approvals.ownRequest],
    ['request for managers', {}, {}, [], en.approvals.managersOnly],
    ['request on a read-only server', {}, { writes: false }, ['shop'], en.errors.writes_off],
    [
      'request that Togglr decides',
      {},
      { decisions: 'elsewhere' as const },
      ['shop'],
      en.errors.decide_elsewhere,
    ],
  ])('says why the user cannot decide: %s', async (_, changes, me, mayDecide, text) => {
    const server = serverWithRequest(changes);
    server.me = { ...server.me, ...me };
    server.mayDecide = mayDecide;
    await openLive(page, server);
    const shown = within(await card('requested_by' in changes ? 'alice' : 'bob'));
    shown.getByText(text);
    const buttons = shown.queryAllByRole('button').map(({ textContent }) => textContent);
    expect(buttons).toEqual('requested_by' in changes ? [en.approvals.cancel] : []);
  });
});

describe('a decision is bound to what is shown', () => {
  it('an edited request stays as it was, without buttons, until the user asks for the changes, which are marked', async () => {
    const { server } = await openLive(page, serverWithRequest());
    server.on('POST', /\/approve$/, () => ({ body: {} }));
    await card();
    await sendStep(server, 'updated', 'bob', edited('2'));
    expect((await card()).textContent).not.toContain('edited');
    expect(within(await card()).queryByRole('button', { name: en.approvals.approve })).toBeNull();
    await click(button(en.approvals.showNow, await card()));
    const marks = within(await card()).getAllByText(en.approvals.changed);
    expect(marks.map((mark) => mark.closest('dt')?.textContent)).toEqual([
      `${en.fields.default_value}${en.approvals.changed}`,
    ]);
    await click(button(en.approvals.approve, await card()));
    await screen.findByText(en.approvals.done.approve);
    expect(server.requests.at(-1)?.body).toEqual({ ...seen, version: '2' });
  });

  it('a request that is edited while its dialog is open cannot be decided there, and the reason is kept', async () => {
    const { server } = await openLive(page, serverWithRequest());
    await click(button(en.approvals.reject, await card()));
    const dialog = await screen.findByRole('dialog', { name: en.approvals.rejectTitle });
    await enter(en.approvals.reason, 'Not before Monday', dialog);
    await sendStep(server, 'updated', 'bob', edited('2'));
    within(dialog).getByText(en.approvals.outdated);
    expect(button(en.approvals.reject, dialog).disabled).toBe(true);
    await click(button(en.shell.cancel, dialog));
    await click(button(en.approvals.showNow, await card()));
    await click(button(en.approvals.reject, await card()));
    expect(screen.getByDisplayValue('Not before Monday')).toBeTruthy();
  });

  it('a refusal because a flag has moved shows three values, and needs another look', async () => {
    const { server } = await openLive(page, serverWithRequest());
    const { entities } = openChange('r1');
    const now = openChange('r1', {
      environment_id: 'stage',
      environment: 'stage',
      entities: entities.map((entity) => ({
        ...entity,
        feature_version: 'v2',
        diff: [{ field: 'enabled', old: false, new: true, current: true }],
      })),
    });
    server.refuse('POST', /\/approve$/, 409, { code: 'stale_request', pending_change: now });
    await click(button(en.approvals.approve, await card()));
    await screen.findByText(en.errors.stale_request);
    expect(within(await card()).queryByRole('button', { name: en.approvals.approve })).toBeNull();
    await click(button(en.approvals.showNow, await card()));
    const { textContent } = await card();
    for (const part of ['whenRequested', 'now', 'after'] as const)
      expect(textContent).toContain(en.approvals[part]);
    server.on('POST', /\/approve$/, () => ({ body: {} }));
    await click(button(en.approvals.approve, await card()));
    await screen.findByText(en.approvals.done.approve);
    expect(server.requests.at(-1)?.body).toEqual({ ...seen, feature_versions: { f1: 'v2' } });
  });

  it('a click does nothing if the card has changed since the pointer went down', async () => {
    const { server } = await openLive(page, serverWithRequest());
    server.on('POST', /\/approve$/, () => ({ body: {} }));
    await card();
    await sendStep(server, 'updated', 'bob', edited('2'));
    const release = press(button(en.approvals.showNow, await card()));
    await sendStep(server, 'updated', 'bob', edited('1'));
    await sendStep(server, 'updated', 'bob', edited('3'));
    await release();
    expect(within(await card()).queryByText('edited')).toBeNull();
    const releaseNow = press(button(en.approvals.showNow, await card()));
    await releaseNow();
    expect(within(await card()).getByText('edited')).toBeTruthy();
  });
});

describe('the approvals page', () => {
  it('filters the requests, and the badge counts those that need a review by the user', async () => {
    const server = createServer();
    server.openChanges = [
      openChange('r1', { project_id: 'billing', project: 'Billing' }),
      openChange('r2', { requested_by: 'alice' }),
      openChange('r3', { requested_by: 'carol' }),
    ];
    await openLive(page, server);
    await card();
    const [badge] = screen.getAllByRole('img', { name: en.approvals.countLabel(1) });
    expect(badge?.textContent).toBe('1');
    await click(screen.getByLabelText(en.approvals.mine));
    await waitFor(() => expect(screen.getAllByRole('article')).toHaveLength(1));
    await card('alice');
    await click(screen.getByLabelText(en.approvals.needsReview));
    await card('carol');
    await waitFor(() => expect(location.search).toBe('?show=needsReview'));
  });

  it('collects new requests, and keeps decided ones in place, until the user asks for them', async () => {
    const { server } = await openLive(page, serverWithRequest());
    const approve = button(en.approvals.approve, await card());
    approve.focus();
    const release = press(approve);
    await serverActs(() => {
      server.step('pending', openChange('r2', { requested_by: 'carol' }));
      server.step('pending', openChange('r3', { requested_by: 'root' }));
    });
    server.on('POST', /\/approve$/, () => ({ body: {} }));
    await release();
    await screen.findByText(en.approvals.done.approve);
    expect(server.paths('POST')).toEqual(['/api/pending-changes/r1/approve']);
    await serverActs(() => {
      server.step('approved', openChange('r1', { status: 'approved', decided_by: 'alice' }), 'alice');
    });
    within(await card()).getByText(en.approvals.decided.approved('alice'));
    const focused = (): unknown => document.activeElement?.closest('article');
    await waitFor(() => expect(screen.getAllByRole('article')).toEqual([focused()]));
    await click(button(en.approvals.showNew(2)));
    const shown = screen.getAllByRole('article');
    const labels = ['carol', 'root'].map((by) => en.approvals.cardLabel(by, 'Flag f1'));
    expect(shown.map((each) => each.getAttribute('aria-label'))).toEqual(labels);
    expect(document.activeElement).toBe(shown[0]);
  });

  it('has one subscription for the requests of 60 environments, and an event costs no request', async () => {
    const server = createServer();
    const keys = Array.from({ length: 60 }, (_, index) => `env ${index}`);
    server.projects = [
      project('shop', 'Web shop', [environment('dev'), ...keys.map((key) => environment(key))]),
    ];
    server.openChanges = Array.from({ length: 90 }, (_, index) => {
      const key = keys[index % 60] ?? '';
      return openChange(`r${index}`, { environment: key, environment_id: key });
    });
    await openLive(page, server);
    await screen.findByText(en.approvals.count(90, null));
    expect(screen.getAllByRole('article')).toHaveLength(90);
    expect(server.subscribed.toSorted()).toEqual(['approvals', 'shop/dev']);
    const before = server.requests.length;
    await serverActs(() => {
      for (const change of server.openChanges.slice(0, 10)) {
        server.step('approved', { ...change, status: 'approved', decided_by: 'root' }, 'root');
      }
    });
    await screen.findByText(en.approvals.count(80, null));
    expect(screen.getAllByText(en.approvals.decided.approved('root'))).toHaveLength(10);
    expect(server.requests.slice(before)).toEqual([]);
  });

  it('shows a new request at once on an empty list, also in an environment whose key has a space', async () => {
    const server = createServer();
    await openLive(page, server);
    await screen.findByText(en.approvals.empty);
    await serverActs(() =>
      server.step('pending', openChange('r1', { environment: 'eu west/prod', environment_id: 'eu' })),
    );
    await card();
  });

  it('shows why the requests could not be loaded', async () => {
    const server = serverWithRequest();
    server.on('GET', /^\/api\/snapshot$/, ({ search }) =>
      search.get('feed') === null
        ? { status: 503, body: { code: 'busy', message: 'busy' } }
        : { status: 403, body: { code: 'forbidden', message: 'forbidden' } },
    );
    openConsole(page, server);
    await screen.findByRole('alert');
    expect(screen.queryByText(en.approvals.empty)).toBeNull();
  });
});
