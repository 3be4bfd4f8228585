// npm run sizes: prints the sizes that sizes.json limits. Ends with exit code 1 if one is above its limit.
import { readFileSync } from 'node:fs';
import { measureSizes } from './packages/measure.js';

const json = readFileSync(new URL('../sizes.json', import.meta.url), 'utf8');
const limits = /** @type {Record<string, Record<string, number>>} */ (
  /** @type {unknown} */ (JSON.parse(json))
);

const rows = Object.entries(await measureSizes()).flatMap(([kind, sizes]) =>
  Object.entries(sizes).map(([name, bytes]) => ({ name, kind, bytes, limit: limits[kind]?.[name] ?? 0 })),
);
console.table(rows);
if (rows.some(({ bytes, limit }) => bytes > limit)) process.exitCode = 1;
