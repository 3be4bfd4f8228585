// Run by npm run rebuild: removes the output of earlier builds, so that files of deleted sources are not published.
import { rm } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';

const packages = fileURLToPath(new URL('../packages/', import.meta.url));
const built = [
  'protocol/dist',
  'protocol/tsconfig.tsbuildinfo',
  'client/dist',
  'server/dist',
  'server/tsconfig.tsbuildinfo',
  'console/app',
  'console/dist',
  'relay-nats/dist',
  'relay-nats/tsconfig.tsbuildinfo',
  'demo/dist',
  'demo/tsconfig.tsbuildinfo',
  'io-uring/dist',
  'io-uring/tsconfig.tsbuildinfo',
];
await Promise.all(built.map(async (path) => await rm(packages + path, { recursive: true, force: true })));
