import { screen, waitFor, within } from '@testing-library/dom';
import { describe, expect, it } from 'vitest';
import { en } from '../src/i18n/en.js';
import { button, click, createServer, enter, enterInto, openLive, serverActs } from './fixture/console.js';
import { environment, openChange, userOf } from './fixture/data.js';
import type { ScriptedServer } from './fixture/scripted-server.js';

const page = '/p/shop/dev/approvals';

/** A server with a request of bob for the flag f1 in prod. */
function serverWithRequest(changes: Parameters<typeof openChange>[1] = {}): ScriptedServer {
  const server = createServer();
  server.openChanges = [openChange('r1', changes)];
  return server;
}

/** Sends a step of the request, and removes it from the list. */
async function sendStep(server: ScriptedServer, action: string, actor: string | null): Promise<void> {
  await serverActs(() => {
    server.openChanges = [];
    server.emit({
      source: 'pending',
      action,
      actor,
      environment: 'prod',
      environment_id: 'prod',
      pending_change_id: 'r1',
    });
  });
}

async function card(by = 'bob'): Promise<HTMLElement> {
  return await screen.findByRole('article', { name: en.approvals.cardLabel(by, 'Flag f1') });
}

/** The versions of the request that a decision sends back. */
const seen = { version: '1', feature_versions: { f1: 'v1' } };

describe('a request', () => {
  it('shows who asks for what and why, in its environment', async () => {
    await openLive(page, serverWithRequest({ requester_active: false }));
    const shown = within(await card());
    for (const text of ['Web shop / prod', 'The launch is today', en.approvals.requesterInactive])
      expect(shown.getByText(text)).toBeTruthy();
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

  it('is approved with one click', async () => {
    const { server } = await openLive(page, serverWithRequest());
    server.on('POST', /\/approve$/, () => ({ body: {} }));
    await click(button(en.approvals.approve, await card()));
    await screen.findByText(en.approvals.done.approve);
    expect(server.paths('POST')).toEqual(['/api/pending-changes/r1/approve']);
    await sendStep(server, 'approved', 'alice');
    within(await card()).getByText(en.approvals.decided.approved('alice'));
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

  it('closes its dialog and disables its buttons when another user decides', async () => {
    const { server } = await openLive(page, serverWithRequest());
    await click(button(en.approvals.reject, await card()));
    await screen.findByRole('dialog', { name: en.approvals.rejectTitle });
    await sendStep(server, 'approved', 'root');
    const decided = within(await card());
    decided.getByText(en.approvals.decided.approved('root'));
    expect(screen.queryByRole('dialog')).toBeNull();
    expect(button(en.approvals.approve, await card()).disabled).toBe(true);
    expect(button(en.approvals.reject, await card()).disabled).toBe(true);
  });

  it('shows that its requester has cancelled it', async () => {
    const { server } = await openLive(page, serverWithRequest());
    await card();
    await sendStep(server, 'cancelled', null);
    within(await card()).getByText(en.approvals.decided.cancelled(null));
    expect(button(en.approvals.approve, await card()).disabled).toBe(true);
  });

  it('stays open when it is edited', async () => {
    const { server } = await openLive(page, serverWithRequest());
    await card();
    await serverActs(() => {
      server.emit({
        source: 'pending',
        action: 'updated',
        environment: 'prod',
        environment_id: 'prod',
        pending_change_id: 'r1',
      });
    });
    await waitFor(() =>
      expect(server.paths('GET').filter((path) => path === '/api/pending-changes')).toHaveLength(2),
    );
    expect(button(en.approvals.approve, await card()).disabled).toBe(false);
  });

  it('says who was faster if it is decided already', async () => {
    const { server } = await openLive(page, serverWithRequest());
    server.refuse('POST', /\/approve$/, 409, { code: 'already_decided', status: 'rejected', by: 'root' });
    await click(button(en.approvals.approve, await card()));
    await screen.findByText(en.approvals.alreadyDecided(en.approvals.decided.rejected('root')));
  });

  it('names the fields that have changed since', async () => {
    const { server } = await openLive(page, serverWithRequest());
    const conflicts = [{ field: 'enabled' }, { field: 'rollout_key' }];
    server.refuse('POST', /\/approve$/, 409, { code: 'conflict', conflicts });
    await click(button(en.approvals.approve, await card()));
    await screen.findByText(en.approvals.conflictWith(`${en.fields.enabled}, ${en.fields.rollout_key}`));
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
    ['own request', { own: true, may_decide: false, may_cancel: true }, {}, en.approvals.ownRequest],
    ['request for managers', { may_decide: false }, {}, en.approvals.managersOnly],
    ['request that Togglr decides', {}, { decisions: 'elsewhere' as const }, en.approvals.elsewhere],
  ])('says why the user cannot decide: %s', async (_, changes, me, text) => {
    const server = serverWithRequest(changes);
    server.me = { ...server.me, ...me };
    await openLive(page, server);
    const shown = within(await card());
    shown.getByText(text);
    expect(shown.queryByRole('button', { name: en.approvals.approve })).toBeNull();
    expect(shown.queryByRole('button', { name: en.approvals.cancel }) !== null).toBe('may_cancel' in changes);
  });

  it('has no buttons on a server without writes', async () => {
    const server = serverWithRequest();
    server.me = userOf('alice', ['feature.manage'], { writes: false });
    await openLive(page, server);
    expect(within(await card()).queryByRole('button')).toBeNull();
  });
});

describe('the approvals page', () => {
  it('filters the requests, and the badge counts the open ones', async () => {
    const server = createServer();
    server.openChanges = [
      openChange('r1', { may_decide: false }),
      openChange('r2', { requested_by: 'alice', own: true, may_decide: false }),
    ];
    await openLive(page, server);
    await card();
    const [badge] = screen.getAllByRole('img', { name: en.approvals.countLabel(2) });
    expect(badge?.textContent).toBe('2');
    await click(screen.getByLabelText(en.approvals.mine));
    expect(screen.getAllByRole('article')).toHaveLength(1);
    await card('alice');
    await click(screen.getByLabelText(en.approvals.needsReview));
    screen.getByText(en.approvals.noMatch);
  });

  it('shows a new request at once, also in a guarded environment whose key has a space', async () => {
    const server = createServer();
    server.projects[0]?.environments.push(environment('eu west/prod', true, 'eu'));
    await openLive(page, server);
    await screen.findByText(en.approvals.empty);
    await serverActs(() => {
      server.openChanges = [openChange('r1', { environment: 'eu west/prod' })];
      server.emit({
        source: 'pending',
        action: 'pending',
        environment: 'eu west/prod',
        environment_id: 'eu',
        pending_change_id: 'r1',
      });
    });
    await card();
  });

  it('shows why the requests could not be loaded, and loads them on demand', async () => {
    const server = serverWithRequest();
    server.refuse('GET', /^\/api\/pending-changes$/, 403, { code: 'forbidden' });
    await openLive(page, server);
    await screen.findByRole('alert');
    expect(screen.queryByText(en.approvals.empty)).toBeNull();
  });
});
