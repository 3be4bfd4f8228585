import type { IncomingHttpHeaders, IncomingMessage } from 'node:http';
import { BlockList, isIP } from 'node:net';
import type { RequestScheme, RequestSource } from './trusted-proxies.js';

export interface OriginPolicy {
  /**
   * Whether the page that made this request may use the server. Requests without Origin come from no page and are
   * allowed, unless Sec-Fetch-Site says that a page of another origin embeds them. Never throws.
   */
  isAllowed(request: RequestSource): boolean;
  /**
   * The value of Access-Control-Allow-Origin: the request's origin if it is listed, `*` if every page is, else null,
   * also for the server's own pages, which need no permission. Never throws.
   */
  corsOriginOf(request: Pick<IncomingMessage, 'headers'>): string | null;
}

export interface HostPolicy {
  /** Whether the Host header names this server. Never throws. */
  isAllowed(request: Pick<IncomingMessage, 'headers'>): boolean;
}

/**
 * `allowed` lists exact origins (`https://app.example.com`, with a port that is not the scheme's default), `null` for
 * pages without an origin (sandboxed frames, local files), or `*` for every page. Origins are compared as the URL
 * standard does. Throws an Error that names an invalid entry.
 *
 * The server's own pages have the host and port of the Host header, and the scheme of the request if `schemeOf` knows
 * it. Behind a proxy that rewrites Host, list the public origin.
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
    corsOriginOf({ headers: { origin: header } }) {
      if (header === undefined) return null;
      if (listed.has('*')) return '*';
      return isListed(header, parseOrigin(header)) ? header : null;
    },
  };
}

/**
 * An image or frame of another origin would use the connections of the user whose cookie the browser sends. A followed
 * link is allowed: it shows the response to the user only.
 */
function isEmbeddedElsewhere(headers: IncomingHttpHeaders): boolean {
  const site = headers['sec-fetch-site'];
  return (site === 'cross-site' || site === 'same-site') && headers['sec-fetch-dest'] !== 'document';
}

function listedOrigin(entry: string): string {
  if (entry === '*' || entry === 'null') return entry;
  const origin = parseOrigin(entry);
  if (origin !== null) return serializeOrigin(origin);
  throw new Error(
    `${JSON.stringify(entry)} is not an origin: write scheme://host or scheme://host:port and nothing after it, such as https://app.example.com`,
  );
}

function parseOrigin(text: string): URL | null {
  // Without anything that the URL parser drops or guesses: user, path, query, backslash, white space.
  return /^[a-z][a-z0-9+.-]*:\/\/[^/?#@\\\s]+\/?$/i.test(text) ? parseUrl(text) : null;
}

/** Not by URL.canParse: in Node 20 the optimized call reads latin1 as UTF-8, and accepts invalid texts. */
function parseUrl(text: string): URL | null {
  try {
    return new URL(text);
  } catch {
    return null;
  }
}

/** URL.origin is `null` for browser extensions, which do send their origin. */
function serializeOrigin(url: URL): string {
  return `${url.protocol}//${url.host}`;
}

/** If the scheme of the request is unknown, the page's is assumed: then `https://a` and Host `a:443` are the same. */
function isOwnOrigin(
  origin: URL | null,
  host: string | undefined,
  scheme: ReturnType<RequestScheme>,
): boolean {
  if (origin === null || host === undefined || !/^https?:$/.test(origin.protocol)) return false;
  if (scheme !== null && origin.protocol !== `${scheme}:`) return false;
  return parseOrigin(`${origin.protocol}//${host}`)?.host === origin.host;
}

/**
 * Protects from DNS rebinding: a page whose name resolves to this server sends a Host of its own. `allowed` lists names
 * and addresses without a port (`flags.example.com`, `10.0.0.21`, `::1`), compared exactly; null allows any Host.
 * `localhost` stands for all loopback names and addresses, `0.0.0.0` and `::` for every address, because a resolved
 * name is never an address. Throws an Error that names an invalid entry.
 */
export function createHostPolicy(allowed: readonly string[] | null): HostPolicy {
  if (allowed === null) return { isAllowed: () => true };
  const names = new Set(allowed.map(listedHost));
  const allowsAddresses = names.has('0.0.0.0') || names.has('::');
  const allowsLoopback = names.has('localhost');

  return {
    isAllowed({ headers: { host = '' } }) {
      const name = hostName(host);
      if (name === null) return false;
      if (names.has(name)) return true;
      return (allowsLoopback && isLoopback(name)) || (allowsAddresses && isIP(name) !== 0);
    },
  };
}

function listedHost(entry: string): string {
  const isIPv6 = isIP(entry) === 6;
  const name = hostName(isIPv6 ? `[${entry}]` : entry);
  if (name !== null && (isIPv6 || !/:\d+$/.test(entry))) return name;
  throw new Error(
    `${JSON.stringify(entry)} is not a host: write a name or an address without scheme and port, such as flags.example.com`,
  );
}

/** The name or address in a Host header in one form, without its port; null if it is invalid. */
function hostName(host: string): string | null {
  if (!/^(?:[\w.-]+|\[[\da-f:.]+\])(?::\d{1,5})?$/i.test(host)) return null;
  return parseUrl(`http://${host}`)?.hostname.replace(/^\[(.*)\]$/, '$1') ?? null;
}

const loopback = new BlockList();
loopback.addSubnet('127.0.0.0', 8, 'ipv4');
loopback.addAddress('::1', 'ipv6');

function isLoopback(name: string): boolean {
  const family = isIP(name);
  if (family !== 0) return loopback.check(name, family === 4 ? 'ipv4' : 'ipv6');
  return name === 'localhost' || name.endsWith('.localhost');
}
