import { isIP } from 'node:net';

/** The address of NATS servers, with credentials. */
export interface RelayAddress {
  /** `host:port` each. */
  readonly servers: readonly string[];
  readonly user: string | null;
  readonly password: string | null;
  /** A user without a password is a token. */
  readonly token: string | null;
  readonly tls: boolean;
}

/**
 * Parses FLAGCAST_RELAY_URL: `nats://user:password@host:port`, several separated by commas. `tls://` requires TLS and
 * host names: for an IP address the NATS client would look for `localhost` in the certificate.
 *
 * @throws Error that says what is accepted. It quotes nothing, because the text may hold a password.
 */
export function parseRelayUrl(text: string): RelayAddress {
  const urls = text.split(',').map((each) => parseOne(each.trim()));
  const named = urls.find(({ username }) => username !== '');
  const user = named === undefined ? null : decodeURIComponent(named.username);
  const password = named === undefined || named.password === '' ? null : decodeURIComponent(named.password);
  return {
    servers: urls.map(({ hostname, port }) => `${hostname}:${port === '' ? '4222' : port}`),
    user: password === null ? null : user,
    password,
    token: password === null ? user : null,
    tls: urls.some(({ protocol }) => protocol === 'tls:'),
  };
}

function parseOne(text: string): URL {
  const url = URL.canParse(text) ? new URL(text) : null;
  const isComplete = url !== null && url.hostname !== '' && /^\/?$/.test(url.pathname) && url.search === '';
  if (!isComplete || !/^(?:nats|tls):$/.test(url.protocol) || !isDecodable(url)) {
    throw new Error(
      'this is not the address of NATS servers; write nats://user:password@host:4222, several by commas, tls:// for TLS, with the special characters of the password percent-encoded',
    );
  }
  if (url.protocol === 'tls:' && isIP(url.hostname.replace(/^\[|\]$/g, '')) !== 0) {
    throw new Error(
      'tls:// needs host names, because certificates are for names; write the names of the NATS servers',
    );
  }
  return url;
}

function isDecodable({ username, password }: URL): boolean {
  try {
    decodeURIComponent(username + password);
    return true;
  } catch {
    return false;
  }
}
