import type { Writable } from 'node:stream';
import { type Approvals, approvals } from '@flagcast/client/approvals';
import {
  type Channel,
  type ChannelStatus,
  type Client,
  createClient,
  type EventMessage,
  FlagcastError,
  type NetworkOptions,
  type StaleStatus,
} from '@flagcast/client';
import { type ChannelChangedMessage, CloseCode, type ResyncMessage } from '@flagcast/protocol';
import type { FreshnessReason } from '@flagcast/protocol';
import { WebSocket } from 'ws';
import { z } from 'zod';
import { describeError, printable, scrub } from '../describe.js';
import { isWorthLogging, retry } from '../retry.js';
import { CommandError } from './command.js';

const requestTimeoutMs = 10_000;

export interface FollowOptions {
  readonly serverUrl: URL;
  /** A channel by the project's id or name and the environment's key, or the approvals feed. */
  readonly of: { readonly project: string; readonly environmentKey: string } | 'approvals';
  /** Called for each attempt to connect, and before the token expires. */
  readonly makeToken: () => Promise<string>;
  /** Formats an event of the project. */
  readonly line: (event: EventMessage, projectName: string) => string;
  readonly output: Writable;
  /** Reports the state of the connection in a few words, apart from the output. */
  readonly report: (status: string) => void;
  readonly stop: AbortSignal;
}

/** A channel or the approvals feed. */
interface TailTarget {
  readonly open: (client: Client) => Channel | Approvals;
  /** `Web shop / prod` */
  readonly label: string;
  /** The names of the projects by their ids, as of the start. */
  readonly projectNames: ReadonlyMap<string, string>;
}

/**
 * Prints the events of a channel or of the approvals feed until `stop` is aborted, each once and in order, across lost connections.
 *
 * @throws CommandError if a retry would not help.
 */
export async function follow(options: FollowOptions): Promise<void> {
  const target = await retry(async () => await findTarget(options), {
    signal: options.stop,
    onRetry: ({ error, attempt }) => {
      if (error instanceof CommandError) throw error;
      if (isWorthLogging(attempt)) options.report(`not connected: ${retrying(error)}`);
    },
  });
  if (target !== null) await watch(options, target);
}

/** Resolves while there is room in the output. Null if there is room now. */
function drained(output: Writable): Promise<void> | null {
  return output.writableNeedDrain ? new Promise((resolve) => output.once('drain', resolve)) : null;
}

async function watch(options: FollowOptions, { open, label, projectNames }: TailTarget): Promise<void> {
  const { serverUrl, line, output, report, stop } = options;
  let lastToken = '';
  let lastProblem = '';
  const client = createClient({
    url: new URL('.', serverUrl).href,
    activityLimit: 0,
    getToken: async () => {
      await drained(output);
      const token = await options.makeToken();
      const { lastError } = client.getStatus();
      if (token === lastToken && lastError?.closeCode === CloseCode.tokenExpired) {
        throw new FlagcastError(
          'token_expired',
          'The token has expired; start again with a new one, see flagcast token --help',
        );
      }
      lastToken = token;
      return token;
    },
    onError: (error) => {
      // A lost connection is reported by the status of the channel.
      if (error instanceof FlagcastError && error.url !== undefined) return;
      const problem = retrying(error instanceof FlagcastError ? (error.cause ?? error) : error);
      // During an outage each attempt fails with the same error.
      if (stop.aborted || problem === lastProblem) return;
      lastProblem = problem;
      report(problem);
    },
    ...createNetwork(output),
  });
  client.onMessage((message) => {
    if (!('type' in message)) return;
    // After a resync the client loads a snapshot, but the listing has a gap.
    if (message.type === 'resync') {
      const { reason } = message as ResyncMessage;
      report(
        reason === 'scope_changed'
          ? 'events may be missing here: what this user may view has changed'
          : `events are missing here: the server cannot send all missed events (${printable(reason)})`,
      );
    } else if (message.type === 'channel_changed') {
      report(`the environment has a new key: ${printable((message as ChannelChangedMessage).environment)}`);
    }
  });

  const followed = open(client);
  followed.onEvent((event) => {
    output.write(line(event, projectNames.get(event.project_id) ?? event.project_id));
  });
  const place = `${printable(label)} at ${serverUrl.origin}`;
  let isWatching = false;
  const ended = new Promise<FlagcastError | null>((resolve) => {
    let reported: ChannelStatus = followed.getState().status;
    followed.subscribe(() => {
      const { status } = followed.getState();
      if (status === reported) return;
      reported = status;
      if (status.state === 'closed') resolve(status.error);
      else if (status.state === 'stale') report(describeStale(status, client));
      else if (status.state === 'live') {
        report(isWatching ? 'live' : `watching ${place}`);
        isWatching = true;
        lastProblem = '';
      } else if (isWatching) report('catching up');
    });
  });
  const close = (): void => client.close();
  stop.addEventListener('abort', close, { once: true });
  if (stop.aborted) close();
  const error = await ended;
  if (error === null || stop.aborted) return;
  const code = error.closeCode === undefined ? '' : ` (close code ${error.closeCode})`;
  throw new CommandError(`${scrub(error.message)}${code}`);
}

function describeStale({ sinceMs, reason }: StaleStatus, client: Client): string {
  const since = `stale since ${new Date(sinceMs).toTimeString().slice(0, 8)}`;
  if (reason !== 'disconnected') return `${since}: ${staleReasons[reason]}`;
  const { closeCode = 0, code = '' } = client.getStatus().lastError ?? {};
  // Codes below 4000 are those of a lost connection.
  const why = closeCode < 4000 ? '' : ` (close code ${closeCode}: ${printable(code)})`;
  return `${since}, connecting again${why}`;
}

const staleReasons: Readonly<Record<FreshnessReason, string>> = {
  database_unreachable: 'the server cannot connect to its database',
  read_failed: 'the database refuses to let the server read events',
  read_overdue: 'the database does not answer the server in time',
  triggers_missing: 'the triggers that log events are missing in the database',
};

function retrying(error: unknown): string {
  // The message of fetch is "fetch failed"; the reason is its cause.
  const reason = error instanceof TypeError && error.cause instanceof Error ? error.cause : error;
  return `${describeError(reason)}; retrying`;
}

/**
 * WebSockets and fetch that read nothing while the output is full, so that a stalled reader (a pager) stops the server
 * instead of filling the memory.
 */
function createNetwork(output: Writable): NetworkOptions {
  class TailSocket extends WebSocket {
    constructor(url: string, protocols: string[]) {
      super(url, protocols);
      this.on('message', () => {
        const draining = this.isPaused ? null : drained(output);
        if (draining === null) return;
        this.pause();
        void draining.then(() => this.resume());
      });
    }

    override close(): void {
      // A paused socket would not read the close frame of the server.
      if (this.isPaused) this.terminate();
      else super.close();
    }
  }

  return {
    WebSocket: TailSocket,
    fetch: async (input, init) => {
      const response = await fetch(input, init);
      if (response.body === null) return response;
      const paced = new TransformStream<Uint8Array, Uint8Array>({
        transform: async (chunk, controller) => {
          await drained(output);
          controller.enqueue(chunk);
        },
      });
      return new Response(response.body.pipeThrough(paced), response);
    },
  };
}

const projectsSchema = z.object({
  projects: z.array(
    z.object({ id: z.string(), name: z.string(), environments: z.array(z.object({ key: z.string() })) }),
  ),
});
const messageSchema = z.object({ code: z.string().optional(), message: z.string() });
const tokenOption = '--token "$(flagcast token --user NAME)"';
const uuidSchema = z.guid();

/**
 * Finds the channel, or opens the feed, of which the projects are named.
 *
 * @throws CommandError if a retry would not help; Error if it might.
 */
async function findTarget(options: FollowOptions): Promise<TailTarget> {
  const projects = await readProjects(options);
  const projectNames = new Map(projects.map(({ id, name }) => [id, name]));
  if (options.of === 'approvals') return { open: approvals, label: 'the approvals feed', projectNames };
  const { project, environmentKey } = options.of;
  const open =
    (projectId: string): TailTarget['open'] =>
    (client) =>
      client.channel({ projectId, env: environmentKey });
  const found = projects.find(({ id }) => id === project) ?? projects.find(({ name }) => name === project);
  if (found === undefined) {
    // Archived projects are not listed, but have channels.
    if (uuidSchema.safeParse(project).success) {
      return { open: open(project), label: `${project} / ${environmentKey}`, projectNames };
    }
    throw new CommandError(
      `This user sees no project "${printable(project)}"; ${choice(projects.map(({ name }) => `"${name}"`)) ?? `give the token of a user who may view it: ${tokenOption}`}`,
    );
  }
  const keys = found.environments.map(({ key }) => key);
  if (!keys.includes(environmentKey)) {
    throw new CommandError(
      `The project "${printable(found.name)}" has no environment "${printable(environmentKey)}"; ${choice(keys) ?? 'create it'}`,
    );
  }
  return { open: open(found.id), label: `${found.name} / ${environmentKey}`, projectNames };
}

async function readProjects({
  serverUrl,
  makeToken,
  stop,
}: FollowOptions): Promise<z.output<typeof projectsSchema>['projects']> {
  const response = await fetch(new URL('api/projects', serverUrl), {
    headers: { Authorization: `Bearer ${await makeToken()}` },
    signal: AbortSignal.any([stop, AbortSignal.timeout(requestTimeoutMs)]),
  });
  const { status } = response;
  const text = await response.text();
  const json = parseJson(text);
  if (!response.ok) {
    const { data } = messageSchema.safeParse(json);
    const reason = scrub(data?.message ?? text.slice(0, 200)).trim();
    if (data?.code === 'unknown_user') {
      throw new CommandError(
        `The user of the token does not exist at this server; give the token of another one: ${tokenOption}`,
      );
    }
    const problem = `the server refuses (HTTP ${status}): ${reason === '' ? 'no reason given' : reason}`;
    throw status < 500 && ![408, 425, 429].includes(status) ? new CommandError(problem) : new Error(problem);
  }
  const { data } = projectsSchema.safeParse(json);
  if (data !== undefined) return data.projects;
  throw new CommandError(`There is no Flagcast server at ${serverUrl.origin}; give its address with --url`);
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function choice(names: readonly string[]): string | null {
  return names.length === 0 ? null : `give one of ${printable(names.join(', '))}`;
}
