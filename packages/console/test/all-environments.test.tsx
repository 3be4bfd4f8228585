import { screen, waitFor, within } from '@testing-library/dom';
import { describe, expect, it } from 'vitest';
import { inReleaseOrder, isProduction } from '../src/api/environments.js';
import { en } from '../src/i18n/en.js';
import { click, createServer, openLive, serverActs } from './fixture/console.js';
import { environment, feature, openChange, project } from './fixture/data.js';
import type { ScriptedServer } from './fixture/scripted-server.js';

const page = '/p/shop/stage/features/f1';

async function openStrip(server: ScriptedServer = createServer()): Promise<HTMLElement> {
  await openLive(page, server);
  const strip = await screen.findByRole('list', { name: en.feature.environments });
  await waitFor(() => expect(within(strip).getAllByRole('switch')).toHaveLength(3));
  return strip;
}

const switchIn = (name: string): HTMLInputElement =>
  screen.getByRole<HTMLInputElement>('switch', { name: en.feature.switchIn('Flag f1', name) });

describe('the environments of a flag', () => {
  it('are listed with development first and production last', () => {
    const keys = ['live', 'prod-eu', 'qa', 'products', 'dev', 'stage'];
    const [ordered] = inReleaseOrder([
      project(
        'p',
        'P',
        keys.map((key) => environment(key)),
      ),
    ]);
    expect(ordered?.environments.map(({ key }) => key)).toEqual([
      'dev',
      'qa',
      'products',
      'stage',
      'live',
      'prod-eu',
    ]);
    expect(keys.filter((key) => isProduction({ key }))).toEqual(['live', 'prod-eu']);
  });

  it('are live through one connection, and each shows its own changes', async () => {
    const server = createServer();
    const strip = await openStrip(server);
    await waitFor(() => expect(server.subscribed).toHaveLength(4));
    expect(server.sockets.size).toBe(1);
    await serverActs(() => {
      const changed = feature('f1', { enabled: true, default_value: 'only here', version: 'v2' });
      server.emit({ environment: 'prod', environment_id: 'prod', feature: changed });
    });
    await within(strip).findByText('only here');
    expect(['Development', 'Staging', 'Production'].map((name) => switchIn(name).checked)).toEqual([
      false,
      false,
      true,
    ]);
    expect(strip.querySelectorAll('.fc-flash')).toHaveLength(1);
  });

  it('are switched from the page of any of them', async () => {
    const server = createServer();
    const strip = await openStrip(server);
    server.on('PATCH', /^\/api\/features\/f1$/, () => ({
      body: { feature: server.store('f1', { enabled: true }) },
    }));
    await click(switchIn('Development'));
    await waitFor(() => expect(switchIn('Development').checked).toBe(true));
    const [write] = server.requests.filter(({ method }) => method === 'PATCH');
    expect(write?.body).toMatchObject({ env: 'dev', enabled: true });
    // The page of the flag stays.
    await click(within(strip).getByRole('link', { name: 'Production' }));
    await screen.findByRole('heading', { name: 'Flag f1' });
    expect(location.pathname).toBe('/p/shop/prod/features/f1');
  });

  it('close their channels when the page closes', async () => {
    const server = createServer();
    await openStrip(server);
    await click(screen.getByRole('link', { name: en.feature.back }));
    await waitFor(() =>
      expect([...server.sockets].map(({ subscriptions }) => [...subscriptions].toSorted())).toEqual([
        ['approvals', 'stage'],
      ]),
    );
  });

  it('with a guard cannot be switched while a request waits', async () => {
    const server = createServer();
    server.openChanges = [openChange('c1')];
    await openStrip(server);
    await waitFor(() => expect(switchIn('Production').getAttribute('aria-disabled')).toBe('true'));
    expect(switchIn('Development').getAttribute('aria-disabled')).toBe('false');
  });
});
