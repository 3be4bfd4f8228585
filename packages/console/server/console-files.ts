import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { extname, join, relative, sep } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { gzip } from 'node:zlib';
import type { HttpBindings } from '@hono/node-server';
import type { Context } from 'hono';
import { acceptsGzip, defaultHeaders, HttpProblem, OpenAPIHono, sendProblem } from 'flagcast/support';

/** Where Vite puts the pages. */
export const builtPagesDir = fileURLToPath(new URL('../app', import.meta.url));

interface ConsoleFile {
  readonly type: string;
  readonly body: Buffer<ArrayBuffer>;
  readonly etag: string;
  readonly caching: string;
  /** Created by the first request that accepts it; null for files that are compressed already. */
  readonly gzipped: (() => Promise<Buffer<ArrayBuffer>>) | null;
}

interface ConsoleEnv {
  Bindings: HttpBindings;
}

/** Other files are not served. */
const types: Readonly<Record<string, string>> = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.svg': 'image/svg+xml; charset=utf-8',
  '.woff2': 'font/woff2',
};

/** The build puts a hash of the content into these names. */
const hashedName = /^\/assets\/.+-[\w-]{8}\.\w+$/;

/** Only the page's own server. The component library writes its theme into style elements; scripts have no such exception. */
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

/** The routes of the console. All have the same page. */
const pagePaths = ['/', '/approvals', '/approvals/:id', '/p/*'];

const compress = promisify<Buffer, Buffer<ArrayBuffer>>(gzip);

/**
 * Serves the console from a folder, whose files are read once, now. If the folder does not exist, the pages respond with
 * 404 and say how to build it; `null` serves no pages.
 */
export function createPagesApp(pagesDir: string | null): OpenAPIHono<ConsoleEnv> {
  const app = new OpenAPIHono<ConsoleEnv>();
  if (pagesDir === null) return app;
  const { '/index.html': page, ...files } = readFiles(pagesDir);
  for (const path of pagePaths) {
    app.get(path, async (context) => {
      if (page === undefined) {
        return sendProblem(
          context,
          new HttpProblem(
            'console_not_built',
            'The console is not built: run npm run build and start the server again; the API is described at /api/openapi.json',
          ),
        );
      }
      return await sendFile(context, pageAt(page, context.req.path));
    });
  }
  for (const [path, file] of Object.entries(files)) {
    app.get(path, async (context) => await sendFile(context, file));
  }
  // Any other address that a browser navigates to: the console says that there is no such page.
  app.get('*', async (context, next) => {
    const isPage = /\btext\/html\b/.test(context.req.header('Accept') ?? '');
    if (page === undefined || !isPage || context.req.path.startsWith('/api/')) {
      await next();
      return undefined;
    }
    return await sendFile(context, pageAt(page, context.req.path), 404);
  });
  return app;
}

/** The files for browsers by their path on the server, without hidden folders, where the build keeps its notes. */
function readFiles(pagesDir: string): Record<string, ConsoleFile> {
  if (!existsSync(pagesDir)) return {};
  const entries = readdirSync(pagesDir, { recursive: true, withFileTypes: true });
  const files = entries.flatMap((entry): [string, ConsoleFile][] => {
    const file = join(entry.parentPath, entry.name);
    const parts = relative(pagesDir, file).split(sep);
    const type = types[extname(entry.name)];
    if (!entry.isFile() || type === undefined || parts.some((part) => part.startsWith('.'))) return [];
    const path = `/${parts.join('/')}`;
    return [[path, fileOf(type, readFileSync(file), hashedName.test(path))]];
  });
  return Object.fromEntries(files);
}

function fileOf(type: string, body: Buffer<ArrayBuffer>, isImmutable = false): ConsoleFile {
  let gzipped: Promise<Buffer<ArrayBuffer>> | null = null;
  return {
    type,
    body,
    etag: `"${createHash('sha256').update(body).digest('base64url').slice(0, 22)}"`,
    caching: isImmutable ? 'public, max-age=31536000, immutable' : 'no-cache',
    gzipped: type === 'font/woff2' ? null : async () => await (gzipped ??= compress(body)),
  };
}

/**
 * The page at a path. It refers to its files by relative paths, so that it works behind a proxy or a host that strips a
 * prefix (`/flagcast/`): from each path as many levels up as it is deep.
 */
function pageAt(page: ConsoleFile, path: string): ConsoleFile {
  const depth = path.split('/').length - 2;
  const up = '../'.repeat(depth) || './';
  return fileOf(page.type, Buffer.from(page.body.toString('utf8').replace(/(?<=\b(?:src|href)=")\.\//g, up)));
}

async function sendFile(
  context: Context<ConsoleEnv>,
  file: ConsoleFile,
  status: 200 | 404 = 200,
): Promise<Response> {
  const { type, body, etag, caching, gzipped } = file;
  const headers: Record<string, string> = {
    ...securityHeaders,
    'Cache-Control': caching,
    ETag: etag,
    Vary: 'Accept-Encoding',
  };
  const known = context.req.header('If-None-Match')?.split(/\s*,\s*/) ?? [];
  if (status === 200 && known.some((each) => each.replace(/^W\//, '') === etag))
    return context.body(null, 304, headers);
  headers['Content-Type'] = type;
  if (gzipped === null || !acceptsGzip(context)) return context.body(body, status, headers);
  return context.body(await gzipped(), status, { ...headers, 'Content-Encoding': 'gzip' });
}
