import react from '@vitejs/plugin-react';
import { defaultClientConditions, defineConfig } from 'vite';

/** Where server/console-files.ts looks for the pages. */
const outDir = 'app';

export default defineConfig({
  // Relative, so that the console works under any path: the server writes the way from each page to its files.
  base: './',
  plugins: [react()],
  // The sources of the client: the console needs no build of it, and reloads when they change.
  resolve: { conditions: ['@flagcast/source', ...defaultClientConditions] },
  build: {
    outDir,
    emptyOutDir: true,
    target: 'es2022',
    // The content security policy allows no data: modules, and small files are cheap over one connection.
    assetsInlineLimit: 0,
    // The test of sizes.json limits what the first page loads.
    chunkSizeWarningLimit: 600,
    modulePreload: { polyfill: false },
    // The first load is one file: many small ones compress worse.
    rolldownOptions: { output: { codeSplitting: { groups: [{ name: 'first', tags: ['$initial'] }] } } },
    // What is bundled stays under its own licences, which ask to be passed on.
    license: { fileName: 'licenses.md' },
  },
});
