// Measures the core with the store as a page loads it: bundled, minified, gzipped.
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { build } from 'esbuild';

/** 5.0 kB. */
export const budgetBytes = 5_000;

/** @returns {Promise<number>} bytes */
export async function measureCore() {
  const bundle = await build({
    entryPoints: [fileURLToPath(new URL('src/index.ts', import.meta.url))],
    bundle: true,
    minify: true,
    format: 'esm',
    conditions: ['@flagcast/source'],
    target: 'es2022',
    write: false,
  });
  return gzipSync(bundle.outputFiles[0]?.contents ?? '', { level: 9 }).length;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const bytes = await measureCore();
  console.log(`@flagcast/client: ${bytes} of ${budgetBytes} bytes`);
  if (bytes > budgetBytes) process.exitCode = 1;
}
