import { isIP } from 'node:net';
import path from 'node:path';
import { connectionSettings, isPostgresUrl } from '../postgres/connection-settings.js';

/** Makes a value of the text of a setting. */
export interface Parser<Value> {
  /** The name of the value in help texts: `TIME`. */
  readonly name: string;
  /** What is accepted, for help texts: `10ms to 1h`. Empty if `name` says it. */
  readonly accepts: string;
  /** Throws an Error that says what is accepted. Does not quote texts that may hold a password. */
  readonly parse: (text: string) => Value;
}

const msPerUnit = new Map([
  ['ms', 1],
  ['s', 1_000],
  ['m', 60_000],
  ['h', 3_600_000],
  ['d', 86_400_000],
]);

/**
 * A duration such as `500ms`, `30s`, `15m`, `1h`, `7d` or `1.5h` in milliseconds, a whole number.
 *
 * @throws Error that says what to write instead, also for a number without a unit.
 */
export function parseDuration(text: string): number {
  const match = /^(\d+(?:\.\d+)?)(ms|s|m|h|d)$/.exec(text.trim());
  const unitMs = msPerUnit.get(match?.[2] ?? '');
  if (match === null || unitMs === undefined) {
    throw new Error(
      `${JSON.stringify(text)} is not a duration: write a number and a unit, such as 500ms, 30s, 15m, 1h or 7d`,
    );
  }
  // 16.1 * 1000 is 16100.000000000002 in floating point.
  const durationMs = Math.round(Number(match[1]) * unitMs);
  if (durationMs < 1) throw new Error(`${JSON.stringify(text)} is too short a duration: the minimum is 1ms`);
  if (!Number.isSafeInteger(durationMs)) {
    throw new Error(`${JSON.stringify(text)} is too long a duration: write a smaller number`);
  }
  return durationMs;
}

function notAccepted(text: string, accepts: string): Error {
  return new Error(`${JSON.stringify(text)} is not accepted; give ${accepts}`);
}

/** A duration in milliseconds. */
export function duration(min: string, max: string): Parser<number> {
  return {
    name: 'TIME',
    accepts: `${min} to ${max}`,
    parse: (text) => {
      const durationMs = parseDuration(text);
      if (durationMs < parseDuration(min) || durationMs > parseDuration(max)) {
        throw notAccepted(text, `a duration from ${min} to ${max}`);
      }
      return durationMs;
    },
  };
}

/** `words`: texts that stand for a number. */
export function wholeNumber(min: number, max: number, words: Record<string, number> = {}): Parser<number> {
  const range = [`${min} to ${max}`, ...Object.keys(words)].join(' or ');
  return {
    name: 'N',
    accepts: range,
    parse: (text) => {
      if (Object.hasOwn(words, text)) return words[text] ?? min;
      const number = Number(text);
      if (!/^\d+$/.test(text) || number < min || number > max) {
        throw notAccepted(text, `a whole number from ${range}`);
      }
      return number;
    },
  };
}

export function oneOf<Value>(values: Readonly<Record<string, Value>>): Parser<Value> {
  const accepts = Object.keys(values).join(' or ');
  return {
    name: Object.keys(values).join('|'),
    accepts: '',
    parse: (text) => {
      const value = Object.hasOwn(values, text) ? values[text] : undefined;
      if (value === undefined) throw notAccepted(text, accepts);
      return value;
    },
  };
}

/** A text that `check` does not refuse with an Error. */
export function checked(name: string, accepts: string, check: (text: string) => unknown): Parser<string> {
  return {
    name,
    accepts,
    parse: (text) => {
      check(text);
      return text;
    },
  };
}

/** Entries separated by commas. */
export function list(accepts: string, check: (entries: string[]) => unknown): Parser<string[]> {
  return {
    name: 'LIST',
    accepts,
    parse: (text) => {
      const entries = text
        .split(',')
        .map((entry) => entry.trim())
        .filter((entry) => entry !== '');
      check(entries);
      return entries;
    },
  };
}

export const databaseUrl = checked('URL', 'postgresql://user:password@host:5432/database', (text) => {
  if (!isPostgresUrl(text)) {
    const problem = text === '' ? 'it is empty' : 'it is not the URL of a PostgreSQL database';
    throw new Error(
      `${problem}; write postgresql://user:password@host:5432/database, with the special characters of the password percent-encoded`,
    );
  }
  connectionSettings(text);
});

/** The address of the JSON Web Key Set of an identity provider. */
export const jwksUrl = checked('URL', 'http(s)://host/path', (text) => {
  const url = URL.canParse(text) ? new URL(text) : null;
  if (url === null || !/^https?:$/.test(url.protocol) || url.username !== '' || url.password !== '') {
    throw new Error(
      'it is not the address of a JWK Set; write http(s)://host/path, without a user or a password',
    );
  }
});

/** The address of an OpenTelemetry collector. */
export const collectorUrl = checked('URL', 'http(s)://host:4318', (text) => {
  if (!URL.canParse(text) || !/^https?:$/.test(new URL(text).protocol)) {
    throw new Error('it is not the address of an OpenTelemetry collector; write http(s)://host:4318');
  }
});

export const listenAddress = checked('ADDRESS', '', (text) => {
  if (!/^[\w.:%-]+$/.test(text)) {
    throw new Error(
      `${JSON.stringify(text)} is not an address to listen on; give one of this machine, such as 127.0.0.1, 0.0.0.0 or ::`,
    );
  }
});

/** The name of a view. It becomes part of SQL statements. */
export const viewName = checked('VIEW', 'view or schema.view', (text) => {
  if (!/^(?:[a-z_][\w$]*|"[^"\0]+")(?:\.(?:[a-z_][\w$]*|"[^"\0]+"))?$/i.test(text)) {
    throw new Error(
      `${JSON.stringify(text)} is not the name of a view; write view or schema.view, with double quotes around names that SQL wants quoted`,
    );
  }
});

/** Absolute, and the same in every worker. */
export const folder: Parser<string> = {
  name: 'FOLDER',
  accepts: '',
  parse: (text) => path.resolve(text),
};

export const anyText = checked('TEXT', '', () => undefined);

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
