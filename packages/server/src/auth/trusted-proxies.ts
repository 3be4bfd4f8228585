import type { IncomingHttpHeaders } from 'node:http';
import { BlockList, isIP } from 'node:net';

/** What of a request tells where it comes from; an IncomingMessage is one. */
export interface RequestSource {
  readonly headers: IncomingHttpHeaders;
  readonly socket: { readonly remoteAddress?: string | undefined; readonly encrypted?: boolean };
}

/** Where a request comes from, as its limits and the log see it; `unknown` where the socket does not tell. Never throws. */
export type ClientAddress = (request: RequestSource) => string;

/** The scheme of a request as the browser sees it; null where the server cannot know it. Never throws. */
export type RequestScheme = (request: RequestSource) => 'http' | 'https' | null;

export interface TrustedProxies {
  /** Whether the peer of the socket is a listed proxy. */
  readonly isProxy: (socket: RequestSource['socket']) => boolean;
  /**
   * The address of the socket; where that is a listed proxy, the last address in `X-Forwarded-For` that is none:
   * what stands before it anybody could have written. Where a proxy passes on something that is no address, its own.
   */
  readonly clientAddress: ClientAddress;
  /**
   * `https` where the server ends TLS itself; behind a listed proxy what `X-Forwarded-Proto`, else `Forwarded`, says
   * first. Without either it is unknown: a proxy that is not listed may end TLS.
   */
  readonly scheme: RequestScheme;
}

/**
 * `entries` lists the addresses and networks (`10.0.0.7`, `10.0.0.0/8`, `::1`, `fd00::/8`) of the proxies in front
 * of this server. Throws an Error that names the entry if one is neither an address nor a network.
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

/**
 * What is counted where an address is: of IPv6 the network of 64 bits, because whoever has one address there
 * has all of them; anything else as it is. Never throws.
 */
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

/**
 * The address without what may stand around it: the port that some proxies add, brackets, the zone of a
 * link, and the prefix of an IPv4 address on a socket for both. Null where it is no address.
 */
function plainAddress(text: string): string | null {
  const inner = text
    .trim()
    .replace(/^\[(.*)\](:\d+)?$/, '$1')
    .replace(/^([\d.]+):\d+$/, '$1')
    .replace(/%.*$/, '')
    .replace(/^::ffff:(?=[\d.]+$)/i, '');
  return isIP(inner) === 0 ? null : inner;
}
