import type { PresenceUser } from '@flagcast/protocol';
import { screen, waitFor } from '@testing-library/dom';
import { expect, it } from 'vitest';
import { en } from '../src/i18n/en.js';
import { createServer, field, openLive, serverActs } from './fixture/console.js';

const users: PresenceUser[] = [
  { user_id: '8', username: 'bob\u202e', field: 'default_value' },
  { user_id: '9', username: 'carol', field: 'color' },
  { user_id: '10', username: 'dave', field: null },
  { user_id: '11', username: 'erin', field: null },
];

it("a flag's page announces the field with the focus, and names the others", async () => {
  const server = createServer();
  server.hello = { presence: true };
  const { announced } = server;
  await openLive('/p/shop/dev/features/f1', server);
  const form = await screen.findByRole('form', { name: en.feature.details });
  const ids = { project_id: 'shop', environment_id: 'dev', feature_id: 'f1' };
  await waitFor(() => expect(announced.at(-1)).toMatchObject({ feature_id: 'f1' }));
  field(en.feature.valueIn('Development'), form).focus();
  await waitFor(() => expect(announced.at(-1)).toMatchObject({ field: 'default_value' }));
  const own = { user_id: server.me.user.id, username: 'alice', field: null };
  await serverActs(() =>
    server.broadcast({ type: 'presence', ...ids, users: [...users, own], count: 5_001 }),
  );
  const { presence, fields } = en;
  await screen.findByText(
    [
      presence.editingField('bob[U+202E]', fields.default_value),
      presence.editingField('carol', 'color'),
      presence.viewing('dave'),
      presence.more(4_997),
    ].join(' · '),
  );
  expect(screen.getByText(presence.editing('bob[U+202E]')).parentElement?.textContent).toContain(
    'Development',
  );
});
