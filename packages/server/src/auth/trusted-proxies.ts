import type { IncomingHttpHeaders } from 'node:http';
import { BlockList, isIP } from 'node:net';

/** The parts of a request that its origin is determined by; an IncomingMessage has them. */
export interface RequestSource {
  readonly headers: IncomingHttpHeaders;
  readonly socket: { readonly remoteAddress?: string | undefined; readonly encrypted?: boolean };
}

/** The address of the client, for limits and the log; `unknown` if the socket has none. Never throws. */
export type ClientAddress = (request: RequestSource) => string;

/** The scheme of a request as the browser sees it; null if the server cannot know it. Never throws. */
export type RequestScheme = (request: RequestSource) => 'http' | 'https' | null;

export interface TrustedProxies {
  /** Whether the socket is connected to a listed proxy. */
  readonly isProxy: (socket: RequestSource['socket']) => boolean;
  /**
   * The address of the socket, or behind listed proxies the last address in `X-Forwarded-For` that is not a proxy's:
   * clients can forge what precedes it. If a proxy forwards something else than an address, the proxy's own.
   */
  readonly clientAddress: ClientAddress;
  /**
   * `https` if the server terminates TLS; behind a listed proxy the first scheme of `X-Forwarded-Proto`, else of
   * `Forwarded`; else unknown, because a proxy that is not listed may terminate TLS.
   */
  readonly scheme: RequestScheme;
}

/**
 * `entries` lists the addresses and networks of the proxies in front of this server (`10.0.0.7`, `10.0.0.0/8`, `::1`,
 * `fd00::/8`). Throws an Error that names an invalid entry.
 */
export function createTrustedProxies(entries: readonly string[]): TrustedProxies {
  const proxies = new BlockList();
  for (const entry of entries) trust(proxies, entry);
  const isProxy = ({ remoteAddress = '' }: RequestSource['socket']): boolean =>
    isTrusted(proxies, plainAddress(remoteAddress) ?? '');

  return {
    isProxy,
    clientAddress: ({ headers, socket }) => {
      let nearest = plainAddress(socket.remoteAddress ?? '');
      if (nearest === null) return 'unknown';
      if (entries.length === 0) return nearest;
      // node:http joins repeated headers with commas; its types allow for a list.
      const hops = [headers['x-forwarded-for'] ?? []].flat().join().split(',');
      while (isTrusted(proxies, nearest)) {
        const before = plainAddress(hops.pop() ?? '');
        if (before === null) break;
        nearest = before;
      }
      return nearest;
    },
    scheme: ({ headers, socket }) => {
      if (socket.encrypted === true) return 'https';
      if (!isProxy(socket)) return null;
      const forwarded = [headers['x-forwarded-proto'] ?? []].flat().join();
      const [, scheme = ''] = /^\s*(https?)\s*(?:,|$)/i.exec(forwarded) ??
        /^[^,]*?\bproto="?(https?)\b/i.exec(headers.forwarded ?? '') ?? [''];
      return scheme === '' ? null : (scheme.toLowerCase() as 'http' | 'https');
    },
  };
}

/** What limits count: the /64 network of an IPv6 address, because one client has all of its addresses. Never throws. */
export function networkOf(address: string): string {
  if (isIP(address) !== 6) return address;
  const [before = '', after] = address.toLowerCase().split('::');
  const groups = before === '' ? [] : before.split(':');
  const rest = after === undefined || after === '' ? [] : after.split(':');
  // An IPv4 address at the end stands for two groups.
  const written = groups.length + rest.length + (rest.at(-1)?.includes('.') === true ? 1 : 0);
  const left = Array<string>(after === undefined ? 0 : 8 - written).fill('0');
  const network = [...groups, ...left, ...rest].slice(0, 4);
  return `${network.map((group) => Number.parseInt(group, 16).toString(16)).join(':')}::/64`;
}

function trust(proxies: BlockList, entry: string): void {
  const [address = '', prefix, ...more] = entry.split('/');
  const family = familyOf(address);
  const bits = family === 'ipv4' ? 32 : 128;
  if (family === null || more.length > 0 || (prefix !== undefined && !isPrefix(prefix, bits))) {
    throw new Error(
      `${JSON.stringify(entry)} is not the address of a proxy: write an address or a network, such as 10.0.0.7, 10.0.0.0/8, ::1 or fd00::/8`,
    );
  }
  if (prefix === undefined) proxies.addAddress(address, family);
  else proxies.addSubnet(address, Number(prefix), family);
}

function isPrefix(text: string, most: number): boolean {
  return /^\d{1,3}$/.test(text) && Number(text) <= most;
}

function isTrusted(proxies: BlockList, address: string): boolean {
  const family = familyOf(address);
  return family !== null && proxies.check(address, family);
}

function familyOf(address: string): 'ipv4' | 'ipv6' | null {
  const version = isIP(address);
  return version === 0 ? null : version === 4 ? 'ipv4' : 'ipv6';
}

/** The address without port, brackets, zone, and the prefix of IPv4 addresses on dual-stack sockets; null if it is invalid. */
function plainAddress(text: string): string | null {
  const inner = text
    .trim()
    .replace(/^\[(.*)\](:\d+)?$/, '$1')
    .replace(/^([\d.]+):\d+$/, '$1')
    .replace(/%.*$/, '')
    .replace(/^::ffff:(?=[\d.]+$)/i, '');
  return isIP(inner) === 0 ? null : inner;
}
