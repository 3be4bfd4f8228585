import { screen, waitFor } from '@testing-library/dom';
import { expect, it } from 'vitest';
import { createServer, openLive } from './fixture/console.js';
import { auditEntry, openChange } from './fixture/data.js';

const flagPage = '/p/shop/dev/features/f1';

const conditions = (value: string): string => `[{"attribute":"account","operator":"in","value":[${value}]}]`;

it('numbers and times show as the database stores them', async () => {
  const server = createServer();
  const [stored, wanted] = [
    '9007199254740993, 0.1000000000000000055, 1.0',
    '9007199254740995, 0.1000000000000000055, 2.50',
  ];
  // The bodies as the server writes them: JavaScript cannot hold these numbers.
  const entry = JSON.stringify(auditEntry('1', { entity: 'rule', diff: [] })).replace(
    '"diff":[]',
    `"diff":[{"field":"conditions","old":${conditions(stored)},"new":${conditions(wanted)}},
      {"field":"limit","old":1e400,"new":{"deep":1.50}}]`,
  );
  server.on('GET', /^\/api\/audit$/, () => ({
    body: `{"entries":[${entry}],"next":null,"searched_until":null,"index":null}`,
  }));
  const schedule = {
    action: 'enable',
    cron_expr: null,
    cron_duration: null,
    timezone: null,
    created_at: null,
  };
  server.store('f1', {
    schedules: [{ ...schedule, id: 's1', starts_at: '0044-03-15T12:00:00+00:00 BC', ends_at: 'infinity' }],
  });
  await openLive(flagPage, server);
  for (const text of [stored, wanted]) await screen.findByText((shown) => shown.includes(text));
  for (const text of ['1e400', '{"deep":1.50}']) await screen.findByText(text);
  screen.getByText((shown) => shown.includes('0044-03-15T12:00:00+00:00 BC') && shown.includes('infinity'));
});

it('values that differ only in spelling show the difference', async () => {
  const server = createServer();
  const condition = (rest: object): object[] => [{ attribute: 'plan', operator: 'in', ...rest }];
  const [entity] = openChange('r1').entities;
  if (entity === undefined) throw new Error('no entity');
  server.openChanges = [
    openChange('r1', {
      entities: [
        {
          ...entity,
          entity: 'rule',
          diff: [
            {
              field: 'conditions',
              old: condition({ value: ['5', 'a, b'] }),
              new: condition({ value: [5, 'a', 'b'] }),
            },
            {
              field: 'conditions',
              old: condition({ value: 'pro' }),
              new: condition({ value: 'pro', negate: true }),
            },
          ],
        },
      ],
    }),
  ];
  await openLive('/p/shop/dev/approvals', server);
  const card = await screen.findByRole('article');
  for (const text of ['"5", "a, b"', '5, a, b', '"negate":true']) expect(card.textContent).toContain(text);
});

it('fields that are empty before and after, and ids that the title shows, are hidden', async () => {
  const server = createServer();
  const diff = [
    { field: 'feature_id', old: null, new: 'f1' },
    { field: 'description', old: null, new: '' },
    { field: 'name', old: '', new: 'Named' },
  ];
  server.audit = [auditEntry('1', { diff })];
  await openLive('/p/shop/dev/activity', server);
  await screen.findByText('Named');
  expect(document.querySelectorAll('.fc-diff dt')).toHaveLength(1);
});

/** Shows as "not blocked" with its second half reversed, and holds a character of no width. */
const hostile = (text: string): string => `${text} \u202edekcolb\u2066 \u200b\u{e0041}`;
const shown = (text: string): string => `${text} [U+202E]dekcolb[U+2066] [U+200B][U+E0041]`;

it('names of the database such as __proto__ are text', async () => {
  const server = createServer();
  const [entity] = openChange('r1').entities;
  if (entity === undefined) throw new Error('no entity');
  const diff = [
    { field: '__proto__', old: 'before', new: 'after' },
    { field: 'constructor', old: null, new: hostile('made') },
  ];
  server.openChanges = [
    openChange('r1', { requested_by: hostile('eve'), entities: [{ ...entity, action: 'toString', diff }] }),
  ];
  await openLive('/p/shop/dev/approvals', server);
  const card = await screen.findByRole('article');
  for (const text of ['__proto__', 'before', 'after', 'constructor', 'toString', shown('made'), shown('eve')])
    expect(card.textContent).toContain(text);
  await waitFor(() => expect(card.textContent).not.toMatch(/[\u202e\u2066\u200b]/));
});
