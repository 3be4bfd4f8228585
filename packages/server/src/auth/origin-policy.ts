import type { IncomingMessage } from 'node:http';
import type { RequestScheme, RequestSource } from './trusted-proxies.js';

export interface OriginPolicy {
  /**
   * Whether the page that made this request may talk to the server. A request without an
   * Origin header comes from no browser page and is allowed, and so is a page that the host
   * itself served. What a foreign page embeds (an image, a frame) has no Origin header either:
   * browsers tell of that by Sec-Fetch-Site, and it is refused. Never throws.
   */
  isAllowed(request: RequestSource): boolean;
  /**
   * Whom the answer may be shown to, in the words of Access-Control-Allow-Origin: the request's origin where it
   * is listed, `*` where every page is, else null. The server's own origin is null too, as its pages read
   * answers anyway: only the host is compared for that, and another scheme is another origin. Never throws.
   */
  readerOf(request: Pick<IncomingMessage, 'headers'>): string | null;
}

/**
 * `allowed` lists exact origins (`https://app.example.com`, with the port where it is not the
 * scheme's own), `null` for pages without an origin (sandboxed frames, local files), or `*` for
 * every page. Scheme and host are compared as the URL standard does: without case, without the
 * default port. Throws an Error that names the entry if one is not an origin.
 *
 * A page counts as the server's own where its host and port are those of the request's Host
 * header, and its scheme is that of the request where `schemeOf` knows it. A proxy that rewrites
 * Host hides that: list its public origin then.
 */
export function createOriginPolicy(
  allowed: readonly string[],
  schemeOf: RequestScheme = () => null,
): OriginPolicy {
  const listed = new Set(allowed.map(listedOrigin));
  const isListed = (header: string, origin: URL | null): boolean =>
    header === 'null' ? listed.has('null') : origin !== null && listed.has(serializeOrigin(origin));

  return {
    isAllowed(request) {
      const { headers } = request;
      const header = headers.origin;
      if (listed.has('*')) return true;
      if (header === undefined) return !isEmbeddedElsewhere(headers);
      const origin = parseOrigin(header);
      return isListed(header, origin) || isOwnOrigin(origin, headers.host, schemeOf(request));
    },
    readerOf({ headers: { origin: header } }) {
      if (header === undefined) return null;
      if (listed.has('*')) return '*';
      return isListed(header, parseOrigin(header)) ? header : null;
    },
  };
}

/**
 * With a cookie of the host's such a request would be somebody's: its page could not read the answer, but
 * take that person's connections. A link that somebody follows shows the answer to nobody else.
 */
function isEmbeddedElsewhere(headers: IncomingMessage['headers']): boolean {
  const site = headers['sec-fetch-site'];
  return (site === 'cross-site' || site === 'same-site') && headers['sec-fetch-dest'] !== 'document';
}

function listedOrigin(entry: string): string {
  if (entry === '*' || entry === 'null') return entry;
  const origin = parseOrigin(entry);
  if (origin === null) {
    throw new Error(
      `${JSON.stringify(entry)} is not an origin: write scheme://host or scheme://host:port and nothing after it, such as https://app.example.com`,
    );
  }
  return serializeOrigin(origin);
}

function parseOrigin(text: string): URL | null {
  // Nothing that the URL parser would drop or guess: user, path, query, backslash, white space.
  if (!/^[a-z][a-z0-9+.-]*:\/\/[^/?#@\\\s]+\/?$/i.test(text)) return null;
  try {
    // Not URL.canParse: once Node 20 has optimized the call it takes latin1 for UTF-8 and says yes to what is none.
    return new URL(text);
  } catch {
    return null;
  }
}

/** URL.origin is `null` for the schemes of browser extensions, which do send their origin. */
function serializeOrigin(url: URL): string {
  return `${url.protocol}//${url.host}`;
}

/**
 * Where the scheme of the request is not known, Host is read with the page's: then `https://a` and Host `a:443`
 * are the same.
 */
function isOwnOrigin(
  origin: URL | null,
  host: string | undefined,
  scheme: ReturnType<RequestScheme>,
): boolean {
  if (origin === null || host === undefined || !/^https?:$/.test(origin.protocol)) return false;
  if (scheme !== null && origin.protocol !== `${scheme}:`) return false;
  return parseOrigin(`${origin.protocol}//${host}`)?.host === origin.host;
}
