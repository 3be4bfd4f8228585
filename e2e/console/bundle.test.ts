import { readdirSync, readFileSync } from 'node:fs';
import { expect, it } from 'vitest';

const folder = new URL('../../packages/server/console/', import.meta.url);

it('the other pages and the charts are not in the first load', () => {
  const page = readFileSync(new URL('index.html', folder), 'utf8');
  const later = readdirSync(new URL('assets', folder)).filter((file) => !page.includes(`"./assets/${file}"`));
  for (const name of ['feature-page', 'approvals-page', 'activity-page', 'freshness-drawer', 'plot']) {
    expect(
      later.some((file) => file.startsWith(`${name}-`) && file.endsWith('.js')),
      name,
    ).toBe(true);
  }
});
