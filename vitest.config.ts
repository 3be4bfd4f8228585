import { defineConfig } from 'vitest/config';

// Where CI wants the counts; a terminal only gets the usual output.
const report = process.env['FLAGCAST_TEST_REPORT'];

export default defineConfig({
  test: {
    reporters: report === undefined ? ['default'] : ['default', ['json', { outputFile: report }]],
    include: ['packages/*/test/**/*.test.{ts,tsx}', 'e2e/**/*.test.ts'],
    globalSetup: ['packages/server/test/cluster.setup.ts'],
    // Real databases and real processes: slow machines get time, hangs still end.
    testTimeout: 60_000,
    hookTimeout: 60_000,
    maxWorkers: 2,
  },
});
