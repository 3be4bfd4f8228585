import { expect, it } from 'vitest';
import { en } from '../../packages/console/src/i18n/en.js';
import { at, type Flag, type Person, useConsoleFixture, webShop } from './console-fixture.js';
import { button, cardOf, showCard, waitUntilLive } from './screen.js';

const context = useConsoleFixture();
const approvals = at(webShop, 'dev', 'approvals');

/** Requests that the flag is switched on in prod; resolves with the id of the request. */
async function request(person: Person, flag: Flag): Promise<string> {
  const { pending_change: change } = (await context.fixture.change(person, flag, 'prod', {
    enabled: true,
    reason: 'The launch is today',
  })) as { pending_change: { id: string } };
  return change.id;
}

/** Edits the request as the host does. */
async function edit(id: string): Promise<void> {
  await context.fixture.database.pool.query(
    `UPDATE pending_changes SET change = jsonb_set(change, '{entities,0,changes,default_value}', '{"old": "", "new": "edited"}') WHERE id = $1`,
    [id],
  );
}

it('a click meant for one request never decides another one that arrives between pointer-down and up', async () => {
  const { fixture } = context;
  const [flag, other] = [await fixture.addFlag(), await fixture.addFlag()];
  await request('bob', flag);
  const { page } = await fixture.open('alice', approvals);
  await waitUntilLive(page);
  const approve = button(cardOf(page, 'bob', flag), en.approvals.approve);
  await approve.hover();
  const before = await cardOf(page, 'bob', flag).boundingBox();
  await page.mouse.down();
  await request('bob', other);
  await button(page, en.approvals.showNew(1)).waitFor();
  expect(await cardOf(page, 'bob', flag).boundingBox()).toEqual(before);
  await page.mouse.up();
  const dialog = page.getByRole('dialog');
  await dialog.getByText(en.approvals.confirm(flag.name, 'Web shop', 'Production')).waitFor();
  await page.keyboard.press('Escape');
  await showCard(cardOf(page, 'bob', other));
});

it('a request that is edited while its dialog is open cannot be decided before the user has seen the edit', async () => {
  const { fixture } = context;
  const flag = await fixture.addFlag();
  const id = await request('bob', flag);
  const { page } = await fixture.open('alice', approvals);
  await waitUntilLive(page);
  const card = cardOf(page, 'bob', flag);
  await button(card, en.approvals.approve).click();
  const dialog = page.getByRole('dialog');
  await edit(id);
  await dialog.getByText(en.approvals.outdated).waitFor();
  expect(await button(dialog, en.approvals.approve).isDisabled()).toBe(true);
  await button(dialog, en.shell.cancel).click();
  await button(card, en.approvals.showNow).click();
  await card.getByText('edited').waitFor();
  await button(card, en.approvals.approve).click();
  await dialog.getByText('edited').waitFor();
  await button(dialog, en.approvals.approve).click();
  await card.getByText(en.approvals.decided.approved('alice')).waitFor();
});

it('a requester who comes back after the log has forgotten finds the decision with its reason', async () => {
  const { fixture } = context;
  const { pool } = fixture.database;
  const [seen, flag] = [await fixture.addFlag(), await fixture.addFlag()];
  await fixture.decide('root', await request('bob', seen), 'reject', { reason: 'Not on Fridays' });
  const id = await request('bob', flag);
  const bob = await fixture.open('bob', approvals);
  await bob.page.getByRole('button', { name: /^For you/ }).click();
  await bob.page
    .getByRole('dialog', { name: en.approvals.bell(0) })
    .getByText('Not on Fridays')
    .waitFor();
  await button(bob.page, en.approvals.bell(0)).waitFor();
  await bob.page.goto('/healthz');
  await fixture.decide('root', id, 'reject', { reason: 'Not before Monday' });
  await pool.query(`UPDATE flagcast.event_log SET logged_at = now() - interval '8 days'`);
  await pool.query(`SELECT flagcast.prune_event_log('7 days', 100000)`);
  await bob.page.goto(at(webShop, 'dev', 'features'));
  await button(bob.page, en.approvals.bell(1)).click();
  const decision = bob.page.getByRole('listitem').filter({ hasText: flag.name });
  await decision.getByText('Not before Monday').waitFor();
  await decision.getByRole('link').click();
  await bob.page.getByRole('region', { name: en.feature.history }).getByText('Not before Monday').waitFor();
  await bob.page.reload();
  await button(bob.page, en.approvals.bell(0)).waitFor();
});

it('a requester learns that another user has cancelled the request, at once and after a reload', async () => {
  const { fixture } = context;
  const flag = await fixture.addFlag();
  const bob = await fixture.open('bob', at(webShop, 'dev', 'features'));
  await waitUntilLive(bob.page);
  await bob.page.getByRole('button', { name: /^For you/ }).click();
  await fixture.decide('root', await request('bob', flag), 'cancel');
  const news = bob.page.getByText(`${flag.name}: ${en.approvals.decided.cancelled('root')}`);
  await news.waitFor();
  await bob.page.reload();
  await bob.page.getByRole('button', { name: /^For you/ }).click();
  await news.waitFor();
});

it('one page follows 500 requests in 60 environments with one subscription, and an event costs no HTTP request', async () => {
  const { fixture } = context;
  const { pool } = fixture.database;
  await pool.query(
    `INSERT INTO environments (project_id, key, name) SELECT $1, 'env-' || n, 'Environment ' || n FROM generate_series(1, 60) n`,
    [webShop],
  );
  await pool.query(
    `WITH made AS (
       INSERT INTO features (id, project_id, key, name, description, kind)
       SELECT gen_random_uuid(), $1, 'many-' || n, 'Many ' || n, '', 'simple' FROM generate_series(1, 500) n
       RETURNING id, substr(key, 6)::int AS n
     ), requested AS (
       INSERT INTO pending_changes (id, project_id, environment_id, requested_by, request_user_id, change, status)
       SELECT made.id, $1, e.id, 'bob', u.id, jsonb_build_object('entities', jsonb_build_array(jsonb_build_object(
         'entity', 'feature', 'entity_id', made.id, 'action', 'update',
         'changes', '{"enabled": {"old": false, "new": true}}'::jsonb))), 'pending'
       FROM made JOIN environments e ON e.project_id = $1 AND e.key = 'env-' || (made.n % 60 + 1)
       JOIN users u ON u.username = 'bob'
       RETURNING id
     )
     INSERT INTO pending_change_entities (id, pending_change_id, entity, entity_id)
     SELECT gen_random_uuid(), id, 'feature', id FROM requested`,
    [webShop],
  );
  const { page } = await fixture.open('alice', '/healthz');
  const subscriptions: string[] = [];
  page.on('websocket', (socket) => {
    socket.on('framesent', ({ payload }) => {
      if (String(payload).includes('"subscribe"')) subscriptions.push(String(payload));
    });
  });
  await page.goto(approvals);
  await waitUntilLive(page);
  // By elements: to compute the roles and names of hundreds of cards takes the browser a second.
  await page.locator('article').nth(499).waitFor({ state: 'attached' });
  expect(subscriptions.filter((sent) => sent.includes('"feed":"approvals"'))).toHaveLength(1);
  // The channel of the environment on the screen, and the feed.
  expect(subscriptions).toHaveLength(2);
  const requests: string[] = [];
  // The page also preloads its other pages.
  page.on('request', (sent) => {
    if (sent.url().includes('/api/')) requests.push(sent.url());
  });
  await pool.query(
    `UPDATE pending_changes SET status = 'rejected', rejected_by = 'root', rejected_at = now(), rejection_reason = 'No'
     WHERE id IN (SELECT id FROM features WHERE key IN ('many-1', 'many-59', 'many-500'))`,
  );
  for (const name of ['Many 1', 'Many 59', 'Many 500']) {
    const card = page.locator(`article[aria-label="${en.approvals.cardLabel('bob', name)}"]`);
    await card.getByText(en.approvals.decided.rejected('root')).waitFor();
  }
  expect(requests).toEqual([]);
});
