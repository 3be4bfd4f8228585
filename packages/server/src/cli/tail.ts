import { type Environment, loadLocalConfig, tokenSettings } from './config.js';
import { styleText } from 'node:util';
import type { EventMessage } from '@flagcast/client';
import { describeError, printable, printableJson } from '../describe.js';
import { CommandError, defineCommand, UsageError } from './command.js';
import { readSecret } from './data-folder.js';
import { listenForShutdown } from './shutdown.js';
import { follow, type FollowOptions } from './tail-follow.js';
import { signForName } from './token.js';

const defaultUrl = 'http://127.0.0.1:8080';
/** The superuser of the demo. */
const demoSuperuser = 'root';
const demoTokenTtlMs = 3_600_000;
/** From Ctrl-C, or the end of the output, to the end of the process, in milliseconds. */
const stopLimitMs = 800;

export const tailCommand = defineCommand({
  name: 'tail',
  usage: '--project PROJECT --env KEY [options]\n--approvals [options]',
  description: `Prints the events of one environment, or the steps of all requests, as they happen, one line each, until Ctrl-C. Reconnects by itself and prints the missed events. The state of the connection is reported on stderr.`,
  options: {
    project: { value: 'PROJECT', help: 'the id or name of the project' },
    env: { value: 'KEY', help: 'the key of the environment, such as prod' },
    approvals: { help: 'the steps of the requests in all environments that the user may view' },
    url: { value: 'URL', help: `the server (default: ${defaultUrl})` },
    token: {
      value: 'TOKEN',
      help: `the access token (default: one for the user ${demoSuperuser}, signed with FLAGCAST_JWT_SECRET or the secret of the embedded demo)`,
    },
    json: { help: 'print events as JSON, as the server sent them' },
  },
  settings: [...tokenSettings, 'dataDir'],
  run: async ({ options: { url = defaultUrl, token, json, ...options }, environment }) => {
    const of = followedBy(options);
    const textLine = of === 'approvals' ? stepLine : eventLine;
    await tail({
      serverUrl: parseServerUrl(url),
      of,
      makeToken: await tokenSource(token, environment),
      line: json ? jsonLine : textLine,
    });
  },
});

function followedBy(options: {
  readonly project: string | undefined;
  readonly env: string | undefined;
  readonly approvals: boolean;
}): FollowOptions['of'] {
  const { project = '', env = '', approvals } = options;
  const problem = approvals
    ? project + env !== '' && '--approvals takes no --project and no --env'
    : (project === '' && '--project is required') || (env === '' && '--env is required');
  if (problem !== false) throw new UsageError(`${problem}; see flagcast tail --help`);
  return approvals ? 'approvals' : { project, environmentKey: env };
}

/** Prints until Ctrl-C or until the output is closed. Throws CommandError if a retry would not help. */
async function tail(options: Omit<FollowOptions, 'output' | 'report' | 'stop'>): Promise<void> {
  const shutdown = listenForShutdown();
  const outputFailed = new AbortController();
  process.stdout.once('error', (error) => outputFailed.abort(error));
  const stop = AbortSignal.any([shutdown.signal, outputFailed.signal]);
  stop.addEventListener('abort', () => {
    // A stalled reader of the output, or a server that hangs, must not delay the end.
    setTimeout(() => process.exit(), stopLimitMs).unref();
  });
  try {
    const report = (status: string): void => console.error(`flagcast: ${status}`);
    await follow({ ...options, output: process.stdout, report, stop });
  } finally {
    shutdown.dispose();
  }
  const failure: unknown = outputFailed.signal.reason;
  // EPIPE: the reader has closed the pipe, as head does.
  if (failure instanceof Error && !('code' in failure && failure.code === 'EPIPE')) {
    throw new CommandError(`The output cannot be written (${describeError(failure)})`);
  }
}

async function tokenSource(
  token: string | undefined,
  environment: Environment,
): Promise<() => Promise<string>> {
  // A header accepts no other characters, and the error of fetch would quote the token.
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
  return async () => await signForName(secret, demoSuperuser, demoTokenTtlMs, config.tokenChecks);
}

function parseServerUrl(text: string): URL {
  const url = URL.canParse(text) ? new URL(text) : null;
  if (url === null || !/^https?:$/.test(url.protocol) || url.username !== '' || url.password !== '') {
    throw new CommandError(
      `--url: this is not the address of a server; write http(s)://host:port, such as ${defaultUrl}`,
    );
  }
  if (!url.pathname.endsWith('/')) url.pathname += '/';
  return url;
}

const colorOfAction = new Map<string, Parameters<typeof styleText>[0]>([
  ['created', 'green'],
  ['updated', 'yellow'],
  ['deleted', 'red'],
  ['pending', 'cyan'],
  ['approved', 'green'],
  ['rejected', 'red'],
  ['cancelled', 'magenta'],
]);

/** Longer names are shortened; --json prints them in full. */
const actorWidth = 12;
const featureWidth = 24;
const placeWidth = 24;
/** Stands for an unknown value, so that every line has the same columns. */
const unknown = '-';

/** An aligned line: time (UTC), what happened, actor, and the columns of the kind of line. */
function alignedLine(event: EventMessage, what: string, columns: readonly string[]): string {
  const { timestamp, action, actor } = event;
  const color = colorOfAction.get(action);
  const characters = Array.from(printable(actor ?? unknown));
  const shortened =
    characters.length > actorWidth ? [...characters.slice(0, actorWidth - 1), '…'] : characters;
  return `${[
    printable(timestamp.replace(/(\.\d{3})\d+/, '$1')),
    color === undefined ? what : styleText(color, what, { stream: process.stdout }),
    shortened.join('').padEnd(actorWidth),
    ...columns,
  ].join('  ')}\n`;
}

/** An event as a line: time, type, actor, entity, key of the feature or environment, id. */
export function eventLine(event: EventMessage): string {
  // An event of an environment has no feature, and its entity id is always the same.
  const [key, id] =
    event.entity === 'environment'
      ? [event.environment, event.environment_id]
      : [event.feature?.key ?? unknown, event.entity_id];
  // The longest type of the specification.
  return alignedLine(event, printable(event.type).padEnd('pending_change_cancelled'.length), [
    printable(event.entity).padEnd('feature_schedule'.length),
    printable(key).padEnd(featureWidth),
    printable(id),
  ]);
}

/** A step of a request as a line: time, action, actor, project / environment, key of the feature, reason. */
function stepLine(event: EventMessage, projectName: string): string {
  const { action, pending_change: request } = event;
  // A feature that is gone has left its key in the request.
  const entity = request?.entities.find(({ entity_id: id }) => id === event.entity_id);
  const isDecision = request?.status === action && action !== 'pending';
  // A missed step comes with the request as it is now.
  const reason = isDecision
    ? request.decision_reason
    : ['pending', 'updated'].includes(action)
      ? request?.reason
      : null;
  return alignedLine(event, printable(action).padEnd('cancelled'.length), [
    printable(`${projectName} / ${event.environment}`).padEnd(placeWidth),
    printable(event.feature?.key ?? entity?.feature_key ?? unknown).padEnd(featureWidth),
    printable(reason ?? unknown),
  ]);
}

/** An event as the server sent it, as one line of JSON. */
export function jsonLine(event: EventMessage): string {
  return `${printableJson(JSON.stringify(event))}\n`;
}
