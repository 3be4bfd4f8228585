import path from 'node:path';
import type { BinariesSource } from '../../demo/src/embedded/embedded-binaries.js';

/**
 * The PostgreSQL that tests start: the package in the folder `packageDir`, by default the one that
 * FLAGCAST_TEST_POSTGRES names (`npm run versions`), else the one that is installed.
 */
export function chosenBinaries(
  dataDir: string,
  packageDir = process.env['FLAGCAST_TEST_POSTGRES'],
): { binaries?: BinariesSource } {
  if (packageDir === undefined) return {};
  return { binaries: { packageDir, copyDir: path.join(dataDir, 'programs') } };
}
