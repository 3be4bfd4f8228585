import type { IncomingMessage } from 'node:http';
import { BlockList, isIP } from 'node:net';

export interface HostPolicy {
  /** Whether the Host header names this server. Never throws. */
  isAllowed(request: Pick<IncomingMessage, 'headers'>): boolean;
}

const loopback = new BlockList();
loopback.addSubnet('127.0.0.0', 8, 'ipv4');
loopback.addAddress('::1', 'ipv6');

/**
 * `allowed` lists names and addresses without a port (`flags.example.com`, `10.0.0.21`, `::1`); null allows any Host.
 * A page whose name is made to resolve to this server (DNS rebinding) sends a Host of its own, so names are compared
 * exactly. Three words stand for more than themselves: `localhost` for all loopback names and addresses, and
 * `0.0.0.0` and `::` for every address, which no name that is resolved can become. Throws an Error that names the
 * entry if one is not a host.
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
  const name = hostName(isIP(entry) === 6 ? `[${entry}]` : entry);
  const hasPort = isIP(entry) !== 6 && /:\d+$/.test(entry);
  if (name === null || hasPort) {
    throw new Error(
      `${JSON.stringify(entry)} is not a host: write a name or an address without scheme and port, such as flags.example.com`,
    );
  }
  return name;
}

/** The name or address in a Host header in one form, without its port; null where it is neither. */
function hostName(host: string): string | null {
  if (!/^(?:[\w.-]+|\[[\da-f:.]+\])(?::\d{1,5})?$/i.test(host)) return null;
  try {
    return new URL(`http://${host}`).hostname.replace(/^\[(.*)\]$/, '$1');
  } catch {
    return null;
  }
}

function isLoopback(name: string): boolean {
  const family = isIP(name);
  if (family !== 0) return loopback.check(name, family === 4 ? 'ipv4' : 'ipv6');
  return name === 'localhost' || name.endsWith('.localhost');
}
