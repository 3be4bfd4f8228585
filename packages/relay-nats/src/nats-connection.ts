import { createHash } from 'node:crypto';
import { jetstreamManager, type JetStreamManager } from '@nats-io/jetstream';
import { connect, errors, type NatsConnection as Connection } from '@nats-io/transport-node';
import { type Lifecycle, parseRelayUrl, retry } from 'flagcast/support';

/** A connection that NATS has accepted. */
export interface NatsSession {
  readonly connection: Connection;
  readonly jetstream: JetStreamManager;
}

/** How long a NATS server may take to answer, in milliseconds. */
export const responseTimeoutMs = 1_500;
const connectTimeoutMs = 2_000;
/** The longest pause before an attempt to connect, in milliseconds. */
const longestPauseMs = 1_000;
const pingIntervalMs = 5_000;
/** How many parts of a subject say what it is for; those after them are ids. */
const kindTokens = 4;

/** The subjects of a database, or of one history of it, begin with this. */
export const subjectPrefix = (id: string): string => `flagcast.v1.${id}`;

/** A part of a subject for an id: a hash, because ids may contain characters that subjects cannot. */
export const subjectToken = (id: string): string =>
  createHash('sha256').update(id).digest('base64url').slice(0, 22);

/** Rejects if no server accepts the connection. It ends with its first loss. */
export async function connectNats(url: string): Promise<NatsSession> {
  const { servers, user, password, token, tls } = parseRelayUrl(url);
  const connecting = connect({
    servers: [...servers],
    name: 'flagcast',
    ...(user === null || password === null ? {} : { user, pass: password }),
    ...(token === null ? {} : { token }),
    ...(tls ? { tls: {} } : {}),
    timeout: connectTimeoutMs,
    // It would wait by the clock of the host: for an hour if that is set back by an hour.
    reconnect: false,
    pingInterval: pingIntervalMs,
    maxPingOut: 2,
  });
  const connection = await connecting.catch((error: unknown) => {
    throw certificateError(error) ?? error;
  });
  try {
    const jetstream = await jetstreamManager(connection, { timeout: responseTimeoutMs, checkAPI: false });
    return { connection, jetstream };
  } catch (error) {
    await connection.close();
    throw error;
  }
}

/** The error with a fix if the certificate was not accepted; otherwise null. */
function certificateError(error: unknown): Error | null {
  if (!(error instanceof Error && 'code' in error)) return null;
  // The names that OpenSSL and Node give to problems of certificates.
  if (!/CERT|SIGNATURE|CRL|HOSTNAME/.test(String(error.code))) return null;
  const message = `the certificate of NATS is not accepted (${error.message}): set NODE_EXTRA_CA_CERTS to its certificate authority, and use the host name of the certificate`;
  return Object.assign(new Error(message, { cause: error }), { code: error.code });
}

export interface NatsConnectionOptions {
  readonly url: string;
  readonly lifecycle: Lifecycle;
  /** Called after each connect and reconnect. */
  readonly onConnected: (session: NatsSession) => void;
  readonly onDisconnected: () => void;
}

/** Keeps a connection to NATS, with exponential backoff, until it is closed. Emits `relay:lost` once for each outage. */
export class NatsConnection {
  readonly #options: NatsConnectionOptions;
  readonly #closing = new AbortController();
  #session: NatsSession | null = null;
  /** `starting`: no attempt has failed yet. */
  #state: 'starting' | 'connected' | 'lost' = 'starting';
  #running: Promise<void> | null = null;
  /** The kinds of the errors that were reported since the last connect. */
  readonly #reported = new Set<string>();

  constructor(options: NatsConnectionOptions) {
    this.#options = options;
  }

  start(): void {
    this.#running ??= this.#run();
  }

  async close(): Promise<void> {
    this.#closing.abort();
    await this.#session?.connection.close();
    await this.#running;
  }

  async #run(): Promise<void> {
    const { signal } = this.#closing;
    await retry(
      async (attempts) => {
        const session = await connectNats(this.#options.url);
        this.#session = session;
        if (signal.aborted) {
          await session.connection.close();
          return;
        }
        attempts.reset();
        this.#connected(session);
        await this.#watch(session);
        throw (await session.connection.closed()) ?? new Error('NATS has closed the connection');
      },
      { signal, capMs: longestPauseMs, onRetry: ({ error }) => this.#disconnected(error) },
    );
  }

  /** Resolves when the connection has ended. */
  async #watch(session: NatsSession): Promise<void> {
    for await (const status of session.connection.status()) {
      if (status.type === 'disconnect') this.#disconnected(new Error('the connection to NATS was lost'));
      if (status.type === 'error') this.#report(status.error);
    }
  }

  /**
   * A missing permission: without this message the relay would stay silent without a reason. NATS answers each message
   * with the error, so it is reported once for each kind of subject.
   */
  #report(error: Error): void {
    const isPermission = error instanceof errors.PermissionViolationError;
    const kind = isPermission
      ? `${error.operation} ${error.subject.split('.').slice(0, kindTokens).join('.')}`
      : error.message;
    if (this.#reported.has(kind)) return;
    this.#reported.add(kind);
    this.#options.lifecycle.emit('relay:failed', { error, attempt: 1, retryInMs: 0 });
  }

  #connected(session: NatsSession): void {
    this.#state = 'connected';
    this.#reported.clear();
    this.#options.lifecycle.emit('relay:connected', { server: session.connection.getServer() });
    this.#options.onConnected(session);
  }

  #disconnected(error: Error): void {
    if (this.#closing.signal.aborted || this.#state === 'lost') return;
    if (this.#state === 'connected') this.#options.onDisconnected();
    this.#state = 'lost';
    this.#options.lifecycle.emit('relay:lost', { error });
  }
}
