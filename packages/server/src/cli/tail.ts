import { type Environment, allowsColors, loadLocalConfig } from './config/config.js';
import { describeError } from '../describe.js';
import { CommandError, defineCommand, UsageError } from './command.js';
import { readSecret } from './data-folder.js';
import { listenForShutdown } from './shutdown.js';
import { follow, type FollowOptions } from './tail-follow.js';
import { eventLine, jsonLine } from './tail-line.js';
import { TailOutput } from './tail-output.js';
import { signForName } from './token.js';

const DEFAULT_URL = 'http://127.0.0.1:8080';
/** The demo's user who may see everything. */
const DEMO_SUPERUSER = 'root';
const DEMO_TOKEN_TTL_MS = 3_600_000;
/** From Ctrl-C, or from the end of the output, to our own end, in milliseconds. */
const STOP_LIMIT_MS = 800;

export const tailCommand = defineCommand({
  name: 'tail',
  help: `flagcast tail --project PROJECT --env KEY [options]

Prints the events of one environment of a project as they happen, a line each, until Ctrl-C. When
the connection is lost it connects again by itself, and prints what happened meanwhile. How it
stands is told on stderr.

  --url URL          the server (default ${DEFAULT_URL})
  --project PROJECT  the project's id or name
  --env KEY          the environment's key, such as prod
  --token TOKEN      whose eyes to see with (default: the user ${DEMO_SUPERUSER} of the embedded demo on this
                     machine; flagcast token makes others)
  --json             print each event as the server sent it, as JSON
                     (default: time, type, actor, entity, feature, id)

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
      line: values.json === true ? jsonLine : (event) => eventLine(event, { colors }),
    });
  },
});

/** Prints until it is told to stop or its output is closed. Throws CommandError when trying again would not help. */
async function tail(options: Omit<FollowOptions, 'output' | 'say' | 'stop'>): Promise<void> {
  const shutdown = listenForShutdown();
  const outputFailed = new AbortController();
  process.stdout.once('error', (error) => outputFailed.abort(error));
  const stop = AbortSignal.any([shutdown.signal, outputFailed.signal]);
  stop.addEventListener('abort', () => {
    // What a reader that stalls has not taken, or a server that hangs, holds nobody up.
    setTimeout(() => process.exit(), STOP_LIMIT_MS).unref();
  });
  try {
    await follow({
      ...options,
      output: new TailOutput(process.stdout),
      say: (status) => console.error(`flagcast: ${status}`),
      stop,
    });
  } finally {
    shutdown.dispose();
  }
  const failure: unknown = outputFailed.signal.reason;
  // Whoever reads us may have had enough (`| head`); any other failure is one.
  if (failure instanceof Error && !('code' in failure && failure.code === 'EPIPE')) {
    throw new CommandError(`The output cannot be written (${describeError(failure)})`);
  }
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
  return async () => await signForName(secret, DEMO_SUPERUSER, DEMO_TOKEN_TTL_MS, config.tokenChecks);
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
