import { setTimeout as delay } from 'node:timers/promises';
import { isReconnectCode } from '@flagcast/protocol';
import { type Environment, allowsColors, loadLocalConfig } from '../config/config.js';
import { backoffMs } from '../database/session.js';
import { describeError, printable } from '../describe.js';
import { isWorthLogging } from '../log.js';
import { CommandError, defineCommand, UsageError } from './command.js';
import { readSecret } from './data-folder.js';
import { listenForShutdown } from './shutdown.js';
import { eventLine, jsonLine } from './tail-line.js';
import {
  type Ended,
  findChannel,
  isFinal,
  RefusedError,
  type TailChannel,
  watchChannel,
} from './tail-server.js';
import { signForName } from './token.js';

const DEFAULT_URL = 'http://127.0.0.1:8080';
/** The demo's user who may see everything. */
const DEMO_SUPERUSER = 'root';
const DEMO_TOKEN_TTL_MS = 3_600_000;
/** A connection that lasted this long was a good one: the next failure is the first again. */
const GOOD_CONNECTION_MS = 10_000;

export const tailCommand = defineCommand({
  name: 'tail',
  help: `flagcast tail --project PROJECT --env KEY [options]

Prints the events of one environment of a project as they happen, a line each, until Ctrl-C. When
the connection is lost it connects again by itself and says so on stderr.

  --url URL          the server (default ${DEFAULT_URL})
  --project PROJECT  the project's id or name
  --env KEY          the environment's key, such as prod
  --token TOKEN      whose eyes to see with (default: the user ${DEMO_SUPERUSER} of the embedded demo on this
                     machine; flagcast token makes others)
  --json             print each event as the server sent it (default: time, type, entity, id)

Environment:
  FLAGCAST_JWT_SECRET  signs the default token in place of the demo's secret
  FLAGCAST_DATA_DIR    the data folder of the embedded demo (default as in flagcast serve)
  NO_COLOR             no colours (default: colours on a terminal)`,
  options: {
    url: { type: 'string' },
    project: { type: 'string' },
    env: { type: 'string' },
    token: { type: 'string' },
    json: { type: 'boolean' },
  },
  run: async (values, environment) => {
    const { project = '', env = '', token } = values;
    if (project === '') throw new UsageError('Which project? Add --project; see flagcast tail --help');
    if (env === '') throw new UsageError('Which environment? Add --env; see flagcast tail --help');
    const colors = process.stdout.isTTY && allowsColors(environment);
    await tail({
      serverUrl: parseServerUrl(values.url ?? DEFAULT_URL),
      project,
      environmentKey: env,
      makeToken: await tokenSource(token, environment),
      line: values.json === true ? jsonLine : (text) => eventLine(text, { colors }),
    });
  },
});

interface TailOptions {
  readonly serverUrl: URL;
  readonly project: string;
  readonly environmentKey: string;
  /** Called for each connection, so that none begins with a token that has run out. */
  readonly makeToken: () => Promise<string>;
  readonly line: (text: string) => string;
}

/** Prints until it is told to stop or its output is closed. Throws CommandError when trying again would not help. */
async function tail(options: TailOptions): Promise<void> {
  const shutdown = listenForShutdown();
  const outputFailed = new AbortController();
  process.stdout.once('error', (error) => outputFailed.abort(error));
  const stop = AbortSignal.any([shutdown.signal, outputFailed.signal]);
  try {
    await follow(options, stop);
  } finally {
    shutdown.dispose();
  }
  const failure: unknown = outputFailed.signal.reason;
  // Whoever reads us may have had enough (`| head`); any other failure is one.
  if (failure instanceof Error && !('code' in failure && failure.code === 'EPIPE')) {
    throw new CommandError(`The output cannot be written (${describeError(failure)})`);
  }
}

async function follow(options: TailOptions, stop: AbortSignal): Promise<void> {
  const isStopped = (): boolean => stop.aborted;
  const progress: Progress = { channel: null, connections: 0 };
  for (let attempt = 1; !isStopped(); attempt += 1) {
    let problem: string;
    let wasConnected = false;
    try {
      const { code, reason, lastedMs } = await connectOnce(options, progress, stop);
      wasConnected = true;
      problem = `${reason === '' ? 'the connection was lost' : printable(reason)} (close code ${code})`;
      if (isStopped()) return;
      if (!isReconnectCode(code)) {
        throw new CommandError(`The server ended the connection for good: ${problem}`);
      }
      if (lastedMs > GOOD_CONNECTION_MS) attempt = 1;
    } catch (error) {
      if (isStopped()) return;
      if (error instanceof CommandError) throw error;
      const isRefusal = error instanceof RefusedError;
      problem = isRefusal
        ? `the server refuses (HTTP ${error.status}): ${error.message}`
        : describeError(error);
      if (isRefusal && isFinal(error.status)) throw new CommandError(problem);
    }
    if (wasConnected || isWorthLogging(attempt)) say(`not connected: ${problem}; trying again`);
    // Rejects exactly when it is to stop, which the loop looks at.
    await delay(backoffMs(attempt), undefined, { signal: stop }).catch(() => undefined);
  }
}

/** What is known from one connection to the next. */
interface Progress {
  /** Null until the server has told which channel is meant. */
  channel: TailChannel | null;
  connections: number;
}

async function connectOnce(options: TailOptions, progress: Progress, stop: AbortSignal): Promise<Ended> {
  const { serverUrl, makeToken, line } = options;
  const token = await makeToken();
  const channel = (progress.channel ??= await findChannel({ ...options, token, stop }));
  return await watchChannel({
    serverUrl,
    channel,
    token,
    stop,
    onOpen: () => {
      progress.connections += 1;
      const name = printable(channel.label);
      say(
        progress.connections === 1
          ? `watching ${name} at ${serverUrl.origin}`
          : `connected again, watching ${name}; what happened in between is not shown`,
      );
    },
    onMessage: (text) => process.stdout.write(line(text)),
  });
}

function say(status: string): void {
  console.error(`flagcast: ${status}`);
}

async function tokenSource(
  token: string | undefined,
  environment: Environment,
): Promise<() => Promise<string>> {
  // A header takes nothing else, and the error of whoever builds it would quote the token.
  if (token !== undefined) {
    if (!/^[\x21-\x7e]+$/.test(token))
      throw new CommandError('--token: this is not a token; give the output of flagcast token');
    return () => Promise.resolve(token);
  }
  const config = loadLocalConfig(environment, {});
  const secret = config.secret ?? (await readSecret(config.dataDir));
  if (secret === null) {
    throw new CommandError(
      'There is no embedded demo on this machine to make a token for; add --token with one for the server (flagcast token makes them)',
    );
  }
  return async () => await signForName(secret, DEMO_SUPERUSER, DEMO_TOKEN_TTL_MS);
}

function parseServerUrl(text: string): URL {
  const url = URL.canParse(text) ? new URL(text) : null;
  if (url === null || !/^https?:$/.test(url.protocol) || url.username !== '' || url.password !== '') {
    throw new CommandError(
      `--url: this is not the address of a server; write http(s)://host:port, such as ${DEFAULT_URL}`,
    );
  }
  if (!url.pathname.endsWith('/')) url.pathname += '/';
  return url;
}
