import { defineConfig } from 'vitest/config';
import config from '../../vitest.config.ts';

const { test: { projects: _, ...test } = {}, ...vite } = config;

/** For `npm run mutations:pure`: the tests without PostgreSQL, except those that read documents and generated files. */
export default defineConfig({
  ...vite,
  test: {
    ...test,
    include: ['packages/{client,server}/test/unit/**/*.test.ts'],
    exclude: ['**/{asyncapi,mutations,protocol-text}.test.ts'],
  },
});
