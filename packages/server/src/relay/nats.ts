import type { JetStreamManager } from '@nats-io/jetstream';
import type { NatsConnection } from '@nats-io/transport-node';
import { parseRelayUrl } from './relay-url.js';

/** The packages of NATS, which only those load who use them. */
export interface NatsPackages {
  readonly transport: typeof import('@nats-io/transport-node');
  readonly jetstream: typeof import('@nats-io/jetstream');
}

/** @throws Error that says which packages to install. */
export async function loadNats(): Promise<NatsPackages> {
  try {
    const [transport, jetstream] = await Promise.all([
      import('@nats-io/transport-node'),
      import('@nats-io/jetstream'),
    ]);
    return { transport, jetstream };
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'ERR_MODULE_NOT_FOUND')) throw error;
    throw new Error(
      'FLAGCAST_RELAY_URL needs two packages that are not installed: npm install @nats-io/transport-node @nats-io/jetstream',
      { cause: error },
    );
  }
}

export interface NatsSession {
  readonly connection: NatsConnection;
  readonly jetstream: JetStreamManager;
  readonly packages: NatsPackages;
}

/** How long a server of NATS may take to answer, in milliseconds. */
export const answerTimeoutMs = 1_500;
const connectTimeoutMs = 2_000;
const reconnectPauseMs = 500;
const pingIntervalMs = 5_000;

/** Connects, and stays connected as far as possible until it is closed. Rejects when no server answers. */
export async function connectNats(url: string): Promise<NatsSession> {
  const packages = await loadNats();
  const { servers, user, password, token, tls } = parseRelayUrl(url);
  const connecting = packages.transport.connect({
    servers: [...servers],
    name: 'flagcast',
    ...(user === null || password === null ? {} : { user, pass: password }),
    ...(token === null ? {} : { token }),
    ...(tls ? { tls: {} } : {}),
    timeout: connectTimeoutMs,
    maxReconnectAttempts: -1,
    reconnectTimeWait: reconnectPauseMs,
    pingInterval: pingIntervalMs,
    maxPingOut: 2,
  });
  const connection = await connecting.catch((error: unknown) => {
    throw certificateError(error) ?? error;
  });
  try {
    const jetstream = await packages.jetstream.jetstreamManager(connection, {
      timeout: answerTimeoutMs,
      checkAPI: false,
    });
    return { connection, jetstream, packages };
  } catch (error) {
    await connection.close();
    throw error;
  }
}

/** What is wrong with the certificate, and how to mend it; null where that is not what went wrong. */
function certificateError(error: unknown): Error | null {
  if (!(error instanceof Error && 'code' in error)) return null;
  // As OpenSSL and Node name what they find in one.
  if (!/CERT|SIGNATURE|CRL|HOSTNAME/.test(String(error.code))) return null;
  const mend = 'name its authority in NODE_EXTRA_CA_CERTS, and the server as the certificate does';
  const told = new Error(`the certificate of NATS is not accepted (${error.message}): ${mend}`, {
    cause: error,
  });
  return Object.assign(told, { code: error.code });
}
