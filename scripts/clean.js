// npm run rebuild begins with it: removes what builds have left, so that nothing of a source that is gone is published.
import { rm } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';

const packages = fileURLToPath(new URL('../packages/', import.meta.url));
const built = [
  'protocol/dist',
  'protocol/tsconfig.tsbuildinfo',
  'client/dist',
  'server/dist',
  'server/tsconfig.tsbuildinfo',
  'server/console',
];
await Promise.all(built.map(async (path) => await rm(packages + path, { recursive: true, force: true })));
