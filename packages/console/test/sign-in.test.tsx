import { fireEvent, screen, waitFor, within } from '@testing-library/dom';
import { describe, expect, it, vi } from 'vitest';
import { en } from '../src/i18n/en.js';
import { createSession } from '../src/sign-in/session.js';
import type { SessionTabs, SharedSession } from '../src/sign-in/session-tabs.js';
import {
  button,
  click,
  createServer,
  enter,
  enterInto,
  field,
  openConsole,
  submit,
  tokenOf,
  waitUntilLive,
} from './fixture/console.js';
import { userOf } from './fixture/data.js';

const page = '/p/shop/dev/features';

const password = (inside: HTMLElement = document.body): HTMLInputElement =>
  within(inside).getByLabelText<HTMLInputElement>(en.signIn.password, { selector: 'input' });

describe('a sign-in', () => {
  it('masks the password, lets password managers fill it, and keeps the address', async () => {
    const server = createServer();
    server.on('POST', /^\/api\/auth\/login$/, ({ body }) =>
      body['password'] === 'alice-demo'
        ? { body: { token: tokenOf('alice') } }
        : { status: 401, body: { code: 'invalid_login', message: '' } },
    );
    openConsole(`${page}?q=f1`, server, { signedIn: false });
    await screen.findByLabelText(en.signIn.username);
    expect([password().type, password().autocomplete]).toEqual(['password', 'current-password']);
    await enter(en.signIn.username, 'alice');
    for (const text of ['wrong', 'alice-demo']) {
      await enterInto(password(), text);
      await submit(password().form ?? document.body);
      if (text === 'wrong') await screen.findByText(en.errors.invalid_login);
    }
    await waitUntilLive();
    expect([location.pathname, location.search]).toEqual([page, '?q=f1']);
    expect(server.requests.at(-1)?.token).toBe(sessionStorage.getItem('flagcast.token'));
  });

  it('takes a token of the host, and refuses what is none', async () => {
    const server = createServer();
    server.me = userOf('alice', [], { sign_in: 'token' });
    openConsole(page, server, { signedIn: false });
    const token = await screen.findByLabelText<HTMLInputElement>(new RegExp(`^${en.signIn.token}`));
    await enterInto(token, 'nonsense');
    await submit(token.form ?? document.body);
    await screen.findByText(en.signIn.invalidToken);
    await enterInto(token, ` ${tokenOf('alice')} `);
    const isTyped = fireEvent.keyDown(token, { key: 'Enter' });
    expect(isTyped).toBe(false);
    await waitUntilLive();
  });

  it('ends with a sign-out, which forgets the token', async () => {
    const { server } = openConsole(page);
    await waitUntilLive();
    await click(button(en.shell.userMenu('alice')));
    await click(await screen.findByRole('button', { name: en.shell.signOut }));
    await screen.findByLabelText(en.signIn.username);
    expect(sessionStorage.getItem('flagcast.token')).toBeNull();
    await waitFor(() => expect(server.sockets.size).toBe(0));
    expect(document.body.textContent).not.toContain('Web shop');
  });

  it('that has expired is renewed in place, without losing input', async () => {
    const { server, session } = openConsole(`${page}/f1`);
    await waitUntilLive();
    const form = await screen.findByRole('form', { name: en.feature.details });
    await enter(en.fields.description, 'Half a thought', form);
    session.refuseToken();
    const dialog = await screen.findByRole('dialog', { name: en.signIn.expired });
    const name = await within(dialog).findByRole<HTMLInputElement>('textbox', { name: en.signIn.username });
    expect(name.value).toBe('alice');
    server.on('POST', /^\/api\/auth\/login$/, () => ({ body: { token: tokenOf('alice') } }));
    await enterInto(password(dialog), 'alice-demo');
    fireEvent.submit(password(dialog).form ?? document.body);
    await waitFor(() => expect(screen.queryByRole('dialog')).toBeNull());
    expect(field(en.fields.description, form).value).toBe('Half a thought');
    await waitUntilLive();
  });
});

describe('a session', () => {
  it('expires when its token does, also after months, and wakes those who wait for a token', async () => {
    vi.useFakeTimers({ now: 0 });
    const session = createSession(sessionStorage);
    expect(session.getState()).toEqual({ state: 'out' });
    const days = 86_400_000;
    session.signIn(tokenOf('ada', 60 * days));
    await vi.advanceTimersByTimeAsync(59 * days);
    expect(session.getState()).toMatchObject({ state: 'in', username: 'ada' });
    await vi.advanceTimersByTimeAsync(days);
    expect(session.getState().state).toBe('expired');
    const awaited = session.awaitToken();
    const renewed = tokenOf('ada', 61 * days);
    session.signIn(renewed);
    await expect(awaited).resolves.toBe(renewed);
    session.signOut();
    await expect(session.awaitToken()).rejects.toMatchObject({ code: 'signed_out' });
  });

  it('takes over from other tabs only what is newer, of the same user, and has not ended', () => {
    const shared: SharedSession[] = [];
    const ended = new Set<string>();
    let events: Parameters<SessionTabs['listen']>[0] | undefined;
    const session = createSession(sessionStorage, {
      listen: (listeners) => (events = listeners),
      ask: () => undefined,
      share: (each) => shared.push(each),
      end: (id) => ended.add(id),
      hasEnded: (id) => ended.has(id),
    });
    const receive = (id: string, token: string) => {
      events?.onShared({ id, token });
      return session.getState();
    };
    expect(() => receive('other version', 'nonsense')).toThrow();
    expect(receive('expired', tokenOf('ada', -1_000))).toEqual({ state: 'out' });
    expect(receive('first', tokenOf('ada'))).toMatchObject({ state: 'in', username: 'ada' });
    expect(receive('older', tokenOf('ada', 60_000))).toMatchObject({ id: 'first' });
    expect(receive('of another user', tokenOf('bob', 7_200_000))).toMatchObject({ username: 'ada' });
    session.refuseToken();
    expect(events?.current()).toBeNull();
    expect(receive('first', tokenOf('ada', 7_200_000))).toMatchObject({ state: 'in' });
    expect(shared).toEqual([]);
    session.signIn(tokenOf('ada', 7_300_000));
    expect(shared).toMatchObject([{ id: 'first' }]);

    session.signOut();
    expect(receive('first', tokenOf('ada'))).toEqual({ state: 'out' });
    expect(receive('second', tokenOf('ada'))).toMatchObject({ state: 'in' });
    ended.add('second');
    events?.onEnded();
    expect(session.getState()).toEqual({ state: 'out' });
    session.switchUser();
    expect(receive('third', tokenOf('ada'))).toEqual({ state: 'out' });
  });

  it('survives a reload of the tab, unless the stored token is unreadable', () => {
    createSession(sessionStorage).signIn(tokenOf('ada'));
    expect(createSession(sessionStorage).getState()).toMatchObject({ state: 'in', username: 'ada' });
    expect(() => createSession(sessionStorage).signIn('x.y.z')).toThrow();
    sessionStorage.setItem('flagcast.token', 'broken');
    expect(createSession(sessionStorage).getState()).toEqual({ state: 'out' });
    expect(sessionStorage.getItem('flagcast.token')).toBeNull();
  });
});
