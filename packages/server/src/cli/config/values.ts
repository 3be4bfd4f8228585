import { availableParallelism } from 'node:os';
import { z } from 'zod';
import { createTrustedProxies } from '../../auth/trusted-proxies.js';
import { createHostPolicy } from '../../auth/host-allowlist.js';
import { createOriginPolicy } from '../../auth/origin-policy.js';
import { secretKey } from '../../auth/token-verifier.js';
import { parseUserClaim } from '../../auth/user-claim.js';
import { connectionSettings } from '../../postgres/connection-settings.js';
import type { EventTypes } from '../../connections/codecs/plain.js';
import { parseDuration } from './duration.js';
import { parseRelayUrl } from './relay-url.js';

/** A setting that `parse` makes of its text, or refuses with an Error whose message is for the user. */
export function parsed<Output>(parse: (text: string) => Output): z.ZodType<Output, string> {
  return z.string().transform((text, context) => {
    try {
      return parse(text);
    } catch (error) {
      context.addIssue({ code: 'custom', message: error instanceof Error ? error.message : String(error) });
      return z.NEVER;
    }
  });
}

export function wholeNumber(least: number, most: number): z.ZodType<number, string> {
  return parsed((text) => {
    const number = Number(text);
    if (!/^\d+$/.test(text) || number < least || number > most) {
      throw new Error(
        `${JSON.stringify(text)} is not accepted; give a whole number from ${least} to ${most}`,
      );
    }
    return number;
  });
}

// Neither this nor the three that follow quote what they refuse: it may hold a password.
export function parseDatabaseUrl(text: string): string {
  if (!/^postgres(ql)?:\/\//i.test(text) || !URL.canParse(text)) {
    const problem = text === '' ? 'it is empty' : 'it is not the URL of a PostgreSQL database';
    throw new Error(
      `${problem}; write postgresql://user:password@host:5432/database, with the special characters of the password percent-encoded`,
    );
  }
  connectionSettings(text);
  return text;
}

export function parseRelay(text: string): string {
  parseRelayUrl(text);
  return text;
}

export function parseSecret(text: string): string {
  secretKey(text);
  return text;
}

export function parseJwksUrl(text: string): string {
  const url = URL.canParse(text) ? new URL(text) : null;
  if (url === null || !/^https?:$/.test(url.protocol) || url.username !== '' || url.password !== '') {
    throw new Error(
      'it is not the address of a JWK Set; write http(s)://host/path, without a user or a password',
    );
  }
  return text;
}

export function parseHost(text: string): string {
  if (!/^[\w.:%-]+$/.test(text)) {
    throw new Error(
      `${JSON.stringify(text)} is not an address to listen on; give one of this machine, such as 127.0.0.1, 0.0.0.0 or ::`,
    );
  }
  return text;
}

export function parsePollInterval(text: string): number {
  const pollIntervalMs = parseDuration(text);
  if (pollIntervalMs < 10 || pollIntervalMs > 3_600_000) {
    throw new Error(`${JSON.stringify(text)} is not accepted; give a duration from 10ms to 1h`);
  }
  return pollIntervalMs;
}

/** Each worker reads the database for itself, so that a machine with many processors does not get one for each. */
const MOST_AUTOMATIC_WORKERS = 8;
const MOST_WORKERS = 64;

export function parseWorkers(text: string): number {
  if (text === 'auto') return Math.min(availableParallelism(), MOST_AUTOMATIC_WORKERS);
  const workers = Number(text);
  if (!/^\d+$/.test(text) || workers < 1 || workers > MOST_WORKERS) {
    throw new Error(
      `${JSON.stringify(text)} is not accepted; give a whole number from 1 to ${MOST_WORKERS}, or auto for one a processor`,
    );
  }
  return workers;
}

/** Kept as it is written, so that settings stay plain data. */
export function parseUserClaimSetting(text: string): string {
  parseUserClaim(text);
  return text;
}

export function parseMaxTokenAge(text: string): number {
  const durationMs = parseDuration(text);
  if (durationMs < 60_000 || durationMs > 3_650 * 86_400_000) {
    throw new Error(`${JSON.stringify(text)} is not between 1m and 3650d`);
  }
  return durationMs;
}

/** At least a minute, so that a client that reconnects can resume; at most ten years. */
export function parseLogRetention(text: string): number {
  const durationMs = parseDuration(text);
  if (durationMs < 60_000 || durationMs > 10 * 365 * 86_400_000) {
    throw new Error(`${JSON.stringify(text)} is not between 1m and 3650d`);
  }
  return durationMs;
}

/** It becomes part of statements, and a name is all that it can be. */
export function parseView(text: string): string {
  if (!/^(?:[a-z_][\w$]*|"[^"\0]+")(?:\.(?:[a-z_][\w$]*|"[^"\0]+"))?$/i.test(text)) {
    throw new Error(
      `${JSON.stringify(text)} is not the name of a view; write view or schema.view, with double quotes around names that SQL wants quoted`,
    );
  }
  return text;
}

export function parseOverlap(text: string): number {
  const overlapMs = parseDuration(text);
  if (overlapMs < 1_000 || overlapMs > 3_600_000) {
    throw new Error(`${JSON.stringify(text)} is not accepted; give a duration from 1s to 1h`);
  }
  return overlapMs;
}

/** Not quoted either. */
export function parseTracesEndpoint(text: string): string {
  if (!URL.canParse(text) || !/^https?:$/.test(new URL(text).protocol)) {
    throw new Error('it is not an address that traces can be sent to; write http(s)://host:4318');
  }
  return text;
}

export function parseReadyGrace(text: string): number {
  const graceMs = parseDuration(text);
  if (graceMs < 1_000 || graceMs > 3_600_000) {
    throw new Error(`${JSON.stringify(text)} is not accepted; give a duration from 1s to 1h`);
  }
  return graceMs;
}

export function parseOrigins(text: string): string[] {
  const origins = listed(text);
  createOriginPolicy(origins);
  return origins;
}

export function parseAllowedHosts(text: string): string[] {
  const hosts = listed(text);
  createHostPolicy(hosts);
  return hosts;
}

export function parseTrustedProxies(text: string): string[] {
  const proxies = listed(text);
  createTrustedProxies(proxies);
  return proxies;
}

function listed(text: string): string[] {
  return text
    .split(',')
    .map((entry) => entry.trim())
    .filter((entry) => entry !== '');
}

export function parseEventTypes(text: string): EventTypes {
  if (text !== 'spec' && text !== 'togglr') {
    throw new Error(`${JSON.stringify(text)} is not accepted; give spec (the default) or togglr`);
  }
  return text;
}

export function parseQueryToken(text: string): boolean {
  if (text !== 'allow' && text !== 'deny') {
    throw new Error(`${JSON.stringify(text)} is not accepted; give allow or deny (the default)`);
  }
  return text === 'allow';
}

export function parseWrites(text: string): boolean {
  return parseSwitch(text, 'on or off (the default is on for the embedded database, off for one of yours)');
}

export function parseIoUring(text: string): boolean {
  return parseSwitch(text, 'on (the default) or off');
}

function parseSwitch(text: string, accepted: string): boolean {
  if (text !== 'on' && text !== 'off') {
    throw new Error(`${JSON.stringify(text)} is not accepted; give ${accepted}`);
  }
  return text === 'on';
}
