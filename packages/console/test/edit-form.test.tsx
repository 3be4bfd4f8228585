import { fireEvent, screen, waitFor, within } from '@testing-library/dom';
import type { FeatureState } from '@flagcast/client';
import { describe, expect, it } from 'vitest';
import { en } from '../src/i18n/en.js';
import { ru } from '../src/i18n/ru.js';
import { guardingEnvironment, isPending } from '../src/feature/use-save.js';
import {
  button,
  click,
  createServer,
  enter,
  field,
  openConsole,
  openLive,
  serverActs,
  submit,
} from './fixture/console.js';
import { environment, openChange, userOf } from './fixture/data.js';
import type { ScriptedServer } from './fixture/scripted-server.js';

const page = '/p/shop/dev/features/f1';
const value = en.feature.valueIn('Development');

async function openForm(
  server = createServer(),
  path = page,
): Promise<{ server: ScriptedServer; form: HTMLElement }> {
  await openLive(path, server);
  return { server, form: await screen.findByRole('form', { name: en.feature.details }) };
}

/** The bodies of the writes so far. */
const sent = (server: ScriptedServer): unknown[] =>
  server.requests.filter(({ method }) => method === 'PATCH').map(({ body }) => body);

/** Accepts writes: stores the fields, and sends no event. */
function acceptWrites(server: ScriptedServer): void {
  server.on('PATCH', /^\/api\/features\/f1$/, ({ body: { env: _env, version: _version, ...fields } }) => ({
    body: { feature: server.store('f1', fields) },
  }));
}

describe('the form of a flag', () => {
  it('sends the changed fields with the version that they are based on', async () => {
    const { server, form } = await openForm();
    acceptWrites(server);
    expect(button(en.feature.save, form).disabled).toBe(true);
    await enter(en.fields.description, '', form);
    await enter(value, 'on', form);
    await click(within(form).getByRole('switch'));
    await submit(form);
    await screen.findByText(en.feature.saved);
    expect(sent(server)).toEqual([
      { env: 'dev', version: 'v1', description: null, default_value: 'on', enabled: true },
    ]);
    expect(button(en.feature.save, form).disabled).toBe(true);
  });

  it('saves again before the event of the first save has arrived', async () => {
    const { server, form } = await openForm();
    acceptWrites(server);
    for (const text of ['first', 'second']) {
      await enter(value, text, form);
      await submit(form);
      await waitFor(() => expect(button(en.feature.save, form).disabled).toBe(true));
    }
    await waitFor(() => expect(sent(server)).toHaveLength(2));
    expect(sent(server)).toMatchObject([{ version: 'v1' }, { version: 'v2', default_value: 'second' }]);
  });

  it('follows its saves, not their late events, and then a change that commits late with an early time', async () => {
    const { server, form } = await openForm();
    acceptWrites(server);
    for (const text of ['first', 'second']) {
      await enter(value, text, form);
      await submit(form);
      await waitFor(() => expect(button(en.feature.save, form).disabled).toBe(true));
    }
    const first = { ...server.features.get('f1'), version: 'v2', default_value: 'first' } as FeatureState;
    await serverActs(() => server.emit({ actor: 'alice', feature: first }));
    await screen.findByText(en.feature.changedBy('alice'), { exact: false });
    expect(field(value, form).value).toBe('second');
    server.change('f1', { default_value: 'late', updated_at: '2026-01-01T00:00:00.000000Z' });
    await waitFor(() => expect(field(value, form).value).toBe('late'));
  });

  it('does not take text that is typed while it is being saved', async () => {
    const { server, form } = await openForm();
    let respond: (() => void) | undefined;
    server.on('PATCH', /^\/api\/features\/f1$/, async ({ body }) => {
      await new Promise<void>((resolve) => (respond = resolve));
      return { body: { feature: server.store('f1', { default_value: String(body['default_value']) }) } };
    });
    await enter(value, 'sent', form);
    await submit(form);
    await waitFor(() => expect(field(value, form).readOnly).toBe(true));
    await click(within(form).getByRole('switch'));
    await serverActs(() => respond?.());
    await screen.findByText(en.feature.saved);
    expect([field(value, form).readOnly, field(value, form).value]).toEqual([false, 'sent']);
    expect(within(form).getByRole<HTMLInputElement>('switch').checked).toBe(false);
  });

  it('shows the concurrent changes of another user by field, and keeps its own values', async () => {
    const { server, form } = await openForm();
    acceptWrites(server);
    await enter(en.fields.description, 'What alice thinks', form);
    await serverActs(() => {
      server.change('f1', { description: 'What root thinks', name: 'Renamed' }, 'root');
    });
    const alert = await screen.findByRole('alert');
    for (const text of [en.feature.changedWhileEditing('root'), 'What alice thinks', 'What root thinks'])
      within(alert).getByText(text);
    expect(field(en.fields.name, form).value).toBe('Renamed');
    expect(field(en.fields.description, form).value).toBe('What alice thinks');
    expect(button(en.feature.save, form).disabled).toBe(true);
    // The values to choose from are the current ones.
    await enter(en.fields.description, 'What alice thinks now', form);
    within(alert).getByText('What alice thinks now');

    await click(button(en.feature.keepMine, alert));
    await submit(form);
    await screen.findByText(en.feature.saved);
    expect(sent(server)).toEqual([{ env: 'dev', version: 'v2', description: 'What alice thinks now' }]);
  });

  it('has nothing to save after the other values were taken', async () => {
    const { server, form } = await openForm();
    await enter(en.fields.description, 'mine', form);
    await serverActs(() => void server.change('f1', { description: 'theirs' }, 'root'));
    await click(button(en.feature.takeTheirs, form));
    expect(field(en.fields.description, form).value).toBe('theirs');
    expect(button(en.feature.save, form).disabled).toBe(true);
    expect(screen.queryByRole('alert')).toBeNull();
  });

  it('marks what is not saved, and highlights what another user has just changed', async () => {
    const { server, form } = await openForm();
    const frameOf = (label: string): Element | null => field(label, form).closest('.fc-field');
    await enter(value, 'mine', form);
    expect(frameOf(value)?.textContent).toContain(en.feature.unsaved);
    await serverActs(() => void server.change('f1', { name: 'Renamed' }, 'root'));
    await within(form).findByText(en.features.happened('root', en.actions.updated));
    expect(frameOf(en.fields.name)?.querySelector('.fc-flash')).not.toBeNull();
    expect(frameOf(value)?.querySelector('.fc-flash')).toBeNull();
    // The user knows what they have changed elsewhere.
    await serverActs(() => void server.change('f1', { description: 'Elsewhere' }, 'alice'));
    await waitFor(() => expect(field(en.fields.description, form).value).toBe('Elsewhere'));
    expect(form.querySelector('.fc-flash')).toBeNull();
    await click(button(en.feature.discard, form));
    expect(within(form).queryByText(en.feature.unsaved)).toBeNull();
  });

  it('names the author of each concurrent change', async () => {
    const { server, form } = await openForm();
    await enter(en.fields.name, 'mine', form);
    await enter(en.fields.description, 'mine', form);
    await serverActs(() => void server.change('f1', { name: 'theirs' }, 'root'));
    await serverActs(() => void server.change('f1', { description: 'theirs' }, 'bob'));
    for (const by of ['root', 'bob']) await within(form).findByText(en.feature.changedWhileEditing(by));
    within(form).getByText(en.feature.conflictHint);
  });

  it('offers the variants of a multivariate flag, and true or false of a boolean one', async () => {
    const server = createServer();
    const variant = (name: string) => ({ id: name, name, rollout_percent: 50 });
    server.store('f1', {
      kind: 'multivariant',
      default_value: 'blue',
      variants: [variant('blue'), variant('green')],
      variants_total: 2,
    });
    const { form } = await openForm(server);
    acceptWrites(server);
    const choice = within(form).getByRole<HTMLSelectElement>('combobox', { name: value });
    expect(Array.from(choice.options, (option) => option.text)).toEqual(['blue', 'green']);
    fireEvent.change(choice, { target: { value: 'green' } });
    await submit(form);
    await screen.findByText(en.feature.saved);
    expect(sent(server)).toMatchObject([{ default_value: 'green' }]);
    await serverActs(() => void server.change('f1', { kind: 'simple', default_value: 'true' }));
    await click(within(form).getByRole('radio', { name: 'false' }));
    await submit(form);
    await waitFor(() => expect(sent(server)[1]).toMatchObject({ default_value: 'false' }));
  });

  it('does not mix what changes at once with a rollout key that is guarded elsewhere', async () => {
    const { form } = await openForm();
    await enter(en.fields.rollout_key, 'account', form);
    expect(button(en.approvals.request, form).disabled).toBe(false);
    await enter(value, 'on', form);
    within(form).getByText(en.feature.rolloutSeparately('Production'));
    expect(button(en.approvals.request, form).disabled).toBe(true);
  });

  it('needs a name, and says so in the language of the console', async () => {
    localStorage.setItem('flagcast.language', 'ru');
    openConsole(page, createServer());
    const form = await screen.findByRole<HTMLFormElement>('form', { name: ru.feature.details });
    expect(form.noValidate).toBe(true);
    await enter(ru.fields.name, ' ', form);
    within(form).getByText(ru.fieldProblems['must not be empty']);
    expect(button(ru.feature.save, form).disabled).toBe(true);
  });

  it('shows the conflict if a save is based on an old version', async () => {
    const { server, form } = await openForm();
    await enter(value, 'mine', form);
    const current = server.store('f1', { default_value: 'theirs' });
    server.refuse('PATCH', /^\/api\/features\/f1$/, 409, {
      code: 'stale_version',
      current,
      changed_by: { username: 'root' },
    });
    await submit(form);
    const alert = await screen.findByRole('alert');
    within(alert).getByText(en.feature.changedWhileEditing('root'));
    within(alert).getByText('theirs');
    acceptWrites(server);
    await click(button(en.feature.keepMine, alert));
    await submit(form);
    await screen.findByText(en.feature.saved);
    expect(sent(server).at(-1)).toEqual({ env: 'dev', version: 'v2', default_value: 'mine' });
  });

  it('shows no state before the one in a refusal, of which an event arrives late', async () => {
    const { server, form } = await openForm();
    await enter(value, 'mine', form);
    const between = server.store('f1', { default_value: 'between' });
    const current = server.store('f1', { default_value: 'theirs' });
    const changedBy = { username: 'root', audit_id: '3002' };
    server.refuse('PATCH', /./, 409, { code: 'stale_version', current, changed_by: changedBy });
    await submit(form);
    const alert = await screen.findByRole('alert');
    await serverActs(() => void server.emit({ row_id: '3001', feature: between }));
    within(alert).getByText('theirs');
    expect(within(form).queryByText('between')).toBeNull();
    await serverActs(() => void server.emit({ row_id: '3002', feature: current, actor: 'root' }));
    await serverActs(
      () => void server.emit({ row_id: '3003', feature: server.store('f1', { default_value: 'last' }) }),
    );
    await within(form).findByText('last');
  });

  it('keeps the state of an event if a refusal with one before it arrives late', async () => {
    const { server, form } = await openForm();
    await enter(value, 'mine', form);
    let refuse: () => void = () => undefined;
    const refused = new Promise<void>((resolve) => (refuse = resolve));
    const current = server.store('f1', { description: 'between' });
    const changedBy = { username: 'root', audit_id: '3001' };
    server.on('PATCH', /./, async () => {
      await refused;
      return { status: 409, body: { code: 'stale_version', message: '', current, changed_by: changedBy } };
    });
    await submit(form);
    const last = server.store('f1', { description: 'last' });
    await serverActs(() => void server.emit({ row_id: '3002', feature: last, actor: 'bob' }));
    await within(form).findAllByText('last');
    await serverActs(() => refuse());
    await waitFor(() => expect(button(en.feature.save, form).dataset['loading']).toBeUndefined());
    expect(within(form).getAllByText('last')).not.toEqual([]);
    expect(within(form).queryByText('between')).toBeNull();
  });

  it('shows the errors of the server at their fields', async () => {
    const { server, form } = await openForm();
    server.refuse('PATCH', /./, 400, { code: 'invalid', fields: { name: 'is taken' } });
    await enter(en.fields.name, 'Taken', form);
    await submit(form);
    await within(form).findByText('is taken');
  });

  it('asks for a reason in a guarded environment, and starts again after the request', async () => {
    const { server, form } = await openForm(createServer(), '/p/shop/prod/features/f1');
    server.on('PATCH', /./, () => ({ status: 202, body: { pending_change: null } }));
    await click(within(form).getByRole('switch'));
    await click(button(en.approvals.request, form));
    const dialog = await screen.findByRole('dialog', { name: en.approvals.requestTitle('Flag f1') });
    within(dialog).getByText(en.approvals.reasonFor('Production'));
    await enter(en.approvals.reason, 'because', dialog);
    await click(button(en.approvals.request, dialog));
    await screen.findByText(en.features.requested);
    expect(sent(server)).toMatchObject([{ env: 'prod', enabled: true, reason: 'because' }]);
    expect(within(form).getByRole<HTMLInputElement>('switch').checked).toBe(false);
  });

  it('asks for a reason if the server knows a guard that the page does not', async () => {
    const { server, form } = await openForm();
    server.refuse('PATCH', /./, 400, { code: 'invalid', fields: { reason: 'is missing' } });
    await enter(value, 'on', form);
    await submit(form);
    const dialog = await screen.findByRole('dialog');
    within(dialog).getByText(en.approvals.reasonFor(null));
  });

  it('waits for the decision on a pending request of the flag', async () => {
    const server = createServer();
    server.openChanges = [openChange('r1')];
    const { form } = await openForm(server);
    await screen.findByRole('article');
    await enter(value, 'on', form);
    expect(button(en.feature.save, form).disabled).toBe(false);
    await enter(en.fields.name, 'Renamed', form);
    within(form).getByText(en.feature.hasPending);
    expect(button(en.feature.save, form).disabled).toBe(true);
  });

  it('cannot save a flag that was deleted meanwhile, and shows by whom', async () => {
    const { server, form } = await openForm();
    await enter(en.fields.description, 'mine', form);
    await serverActs(() => {
      server.features.delete('f1');
      server.emit({ action: 'deleted', actor: 'root', feature: null });
    });
    await screen.findByText(en.feature.deletedBy('root'));
    expect(within(form).queryByRole('button', { name: en.feature.save })).toBeNull();
    expect(screen.queryByRole('button', { name: en.feature.delete })).toBeNull();
  });

  it.each([
    ['a viewer', [], { toggle: false, note: en.shell.writesOff }],
    ['a member', ['feature.toggle'], { toggle: true, note: en.feature.canToggle }],
  ])('shows %s as text what they cannot edit', async (_, permissions, { toggle, note }) => {
    const server = createServer();
    server.me = userOf('carol', permissions);
    const { form } = await openForm(server);
    within(form).getByText(note);
    expect(within(form).queryAllByRole('textbox')).toEqual([]);
    for (const text of ['Flag f1', 'Made for a test', 'off']) within(form).getByText(text);
    expect(within(form).queryAllByRole('switch')).toHaveLength(toggle ? 1 : 0);
    expect(within(form).queryAllByRole('button', { name: en.feature.save })).toHaveLength(toggle ? 1 : 0);
    expect(screen.queryByRole('button', { name: en.feature.delete })).toBeNull();
  });
});

describe('a guard', () => {
  const project = { id: 'shop', name: 'Shop', environments: [environment('dev'), environment('prod', true)] };
  const [dev, prod] = [environment('dev'), environment('prod', true)];

  it('applies to its environment, and to changes of the rollout key everywhere', () => {
    expect(guardingEnvironment({ enabled: true }, project, dev).guarded).toBe(false);
    expect(guardingEnvironment({ enabled: true }, project, prod).key).toBe('prod');
    expect(guardingEnvironment({ rollout_key: null }, project, dev).key).toBe('prod');
    const unguarded = { ...project, environments: [dev] };
    expect(guardingEnvironment({ rollout_key: 'id' }, unguarded, dev).key).toBe('dev');
  });

  it('makes changes wait for a pending request only where they would touch it', () => {
    const open = [openChange('r1')];
    expect(isPending('f1', { enabled: true }, true, open)).toBe(true);
    expect(isPending('f1', { enabled: true }, false, open)).toBe(false);
    expect(isPending('f1', { name: 'x' }, false, open)).toBe(true);
    expect(isPending('f2', { name: 'x' }, true, open)).toBe(false);
  });
});
