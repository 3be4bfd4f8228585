import { type Environment, allowsColors, loadLocalConfig, tokenSettings } from './config.js';
import { describeError } from '../describe.js';
import { CommandError, defineCommand } from './command.js';
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
  usage: '--project PROJECT --env KEY [options]',
  description: `Prints the events of one environment as they happen, one line each, until Ctrl-C. Reconnects by itself and prints the missed events. The state of the connection is reported on stderr.`,
  options: {
    project: { value: 'PROJECT', required: true, help: 'the id or name of the project' },
    env: { value: 'KEY', required: true, help: 'the key of the environment, such as prod' },
    url: { value: 'URL', help: `the server (default: ${DEFAULT_URL})` },
    token: {
      value: 'TOKEN',
      help: `the access token (default: one for the user ${DEMO_SUPERUSER}, signed with FLAGCAST_JWT_SECRET or the secret of the embedded demo)`,
    },
    json: { help: 'print events as JSON, as the server sent them' },
  },
  settings: [...tokenSettings, 'dataDir', 'noColor'],
  run: async ({ options: { project, env, url = DEFAULT_URL, token, json }, environment }) => {
    const colors = process.stdout.isTTY && allowsColors(environment);
    await tail({
      serverUrl: parseServerUrl(url),
      project,
      environmentKey: env,
      makeToken: await tokenSource(token, environment),
      line: json ? jsonLine : (event) => eventLine(event, { colors }),
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
