import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { extname, join, relative, sep } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { gzip } from 'node:zlib';
import type { HttpBindings } from '@hono/node-server';
import { type Context, Hono } from 'hono';
import { acceptsGzip } from './answers.js';
import { HttpProblem } from '../http-problem.js';
import { answerProblem } from './problem.js';
import { defaultHeaders } from '../transport/default-headers.js';

/** Where the console's build puts its files. */
export const builtConsoleDir = fileURLToPath(new URL('../../console', import.meta.url));

interface ConsoleFile {
  readonly type: string;
  readonly body: Buffer<ArrayBuffer>;
  readonly etag: string;
  /** Made when it is first asked for. */
  gzipped: Promise<Buffer<ArrayBuffer>> | null;
}

/** By the path that the file has on the server, e.g. `/assets/index-BhcB.js`. */
type ConsoleFiles = ReadonlyMap<string, ConsoleFile>;

interface ConsoleEnv {
  Bindings: HttpBindings;
}

const types: Readonly<Record<string, string>> = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.svg': 'image/svg+xml; charset=utf-8',
  '.woff2': 'font/woff2',
};

/** Compressed bytes of these would be no fewer. */
const compressedAlready = new Set(['font/woff2']);

/** Their names change with their contents. */
const hashed = /^\/assets\/.+-[\w-]{8}\.\w+$/;

/**
 * The page may load and ask only its own server. Styles: the component library writes its theme
 * into style elements; scripts have no such exception.
 */
const contentSecurityPolicy = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self' 'unsafe-inline'",
  "img-src 'self' data:",
  "font-src 'self'",
  "connect-src 'self'",
  "base-uri 'none'",
  "form-action 'self'",
  "frame-ancestors 'none'",
].join('; ');

const securityHeaders: Readonly<Record<string, string>> = {
  'Content-Security-Policy': contentSecurityPolicy,
  ...defaultHeaders,
  'X-Frame-Options': 'DENY',
  'Cross-Origin-Opener-Policy': 'same-origin',
  'Permissions-Policy': 'camera=(), geolocation=(), microphone=()',
};

/** The paths that the console itself knows as pages: it is the same file for all of them. */
const pagePaths = ['/', '/approvals', '/p/*'];

const compress = promisify<Buffer, Buffer<ArrayBuffer>>(gzip);

/**
 * Serves the console out of the folder `consoleDir`, whose files are read once, now. Where there is no such folder its pages
 * answer 404 and say how to build it; `null` serves no console at all.
 */
export function createConsoleApp(consoleDir: string | null): Hono<ConsoleEnv> {
  const app = new Hono<ConsoleEnv>();
  if (consoleDir === null) return app;
  const files = readFiles(consoleDir);
  const page = files.get('/index.html');
  for (const path of pagePaths) {
    app.get(path, (context) =>
      page === undefined
        ? answerProblem(
            context,
            new HttpProblem(
              404,
              'console_not_built',
              'The console is not built: run npm run build and start the server again; the API is described at /api/openapi.json',
            ),
          )
        : answerPage(context, page),
    );
  }
  for (const [path, file] of files) {
    if (file === page) continue;
    const caching = hashed.test(path) ? 'public, max-age=31536000, immutable' : 'no-cache';
    app.get(path, async (context) => await answerFile(context, file, caching));
  }
  return app;
}

/** The files that are for browsers: of a known type, and not in a hidden folder, where the build keeps its notes. */
function readFiles(consoleDir: string): ConsoleFiles {
  const files = new Map<string, ConsoleFile>();
  for (const entry of listFolder(consoleDir)) {
    const path = join(entry.parentPath, entry.name);
    const parts = relative(consoleDir, path).split(sep);
    const type = types[extname(entry.name)];
    if (!entry.isFile() || type === undefined || parts.some((part) => part.startsWith('.'))) continue;
    const body = readFileSync(path);
    const etag = `"${createHash('sha256').update(body).digest('base64url').slice(0, 22)}"`;
    files.set(`/${parts.join('/')}`, { type, body, etag, gzipped: null });
  }
  return files;
}

function listFolder(folder: string) {
  try {
    return readdirSync(folder, { recursive: true, withFileTypes: true });
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return [];
    throw error;
  }
}

/**
 * Answers with the page. It names its files relative to itself, so that it works under any path that a proxy or a host
 * puts before the server's own (`/flagcast/`) and takes off again: from each page as many steps up as it is deep.
 */
function answerPage(context: Context<ConsoleEnv>, page: ConsoleFile): Response {
  const depth = context.req.path.split('/').length - 2;
  const etag = page.etag.replace(/"$/, `-${depth}"`);
  const headers: Record<string, string> = { ...securityHeaders, 'Cache-Control': 'no-cache', ETag: etag };
  if (isKnown(context, etag)) return context.body(null, 304, headers);
  const html = page.body.toString('utf8').replace(/(?<=\b(?:src|href)=")\.\//g, '../'.repeat(depth) || './');
  return context.body(html, 200, { ...headers, 'Content-Type': page.type });
}

function isKnown(context: Context<ConsoleEnv>, etag: string): boolean {
  const known = context.req.header('If-None-Match')?.split(/\s*,\s*/) ?? [];
  return known.some((each) => each.replace(/^W\//, '') === etag);
}

async function answerFile(
  context: Context<ConsoleEnv>,
  file: ConsoleFile,
  caching: string,
): Promise<Response> {
  const headers: Record<string, string> = {
    ...securityHeaders,
    'Cache-Control': caching,
    ETag: file.etag,
    Vary: 'Accept-Encoding',
  };
  if (isKnown(context, file.etag)) return context.body(null, 304, headers);
  headers['Content-Type'] = file.type;
  if (!acceptsGzip(context) || compressedAlready.has(file.type)) return context.body(file.body, 200, headers);
  file.gzipped ??= compress(file.body);
  return context.body(await file.gzipped, 200, { ...headers, 'Content-Encoding': 'gzip' });
}
