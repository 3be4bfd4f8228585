import { readdirSync, readFileSync } from 'node:fs';
import { expect, it } from 'vitest';

const folder = new URL('../../packages/console/app/', import.meta.url);

it('the other pages, the charts, dialogs, menus and the sign-in are not in the first load', () => {
  const page = readFileSync(new URL('index.html', folder), 'utf8');
  const later = readdirSync(new URL('assets', folder)).filter((file) => !page.includes(`"./assets/${file}"`));
  const pages = ['feature-page', 'approvals-page', 'activity-page', 'sign-in-page'];
  const parts = [
    'freshness-drawer',
    'activity-chart',
    'modal',
    'popup',

    'request-dialog',
    'ru',
  ];
  for (const name of [...pages, ...parts]) {
    expect(
      later.some((file) => file.startsWith(`${name}-`) && file.endsWith('.js')),
      name,
    ).toBe(true);
  }
});

it('the first load has the styles of its components', () => {
  const page = readFileSync(new URL('index.html', folder), 'utf8');
  const sheets = [...page.matchAll(/assets\/[\w-]+\.css/g)].map(([file]) =>
    readFileSync(new URL(file, folder), 'utf8'),
  );
  expect(sheets.join('')).toContain('--badge-height');
});
