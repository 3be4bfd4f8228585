import type { IncomingMessage } from 'node:http';
import { WebSocket } from 'ws';
import { z } from 'zod';
import { printable, scrub } from '../describe.js';
import { CommandError } from './command.js';

const REQUEST_TIMEOUT_MS = 10_000;
/** How often a silent line is asked whether it lives; it has as long to answer. */
const PROBE_INTERVAL_MS = 15_000;
/** How long a server may take to say goodbye. */
const CLOSE_TIMEOUT_MS = 1_000;
/** An answer is a line; a proxy may send a whole page in its place. */
const MAX_ANSWER_CHARS = 4_096;

/** One environment of one project, as the server knows it. */
export interface TailChannel {
  readonly projectId: string;
  readonly environmentKey: string;
  /** For people: `Web shop / prod`. */
  readonly label: string;
}

/** The server's HTTP answer in place of what was asked for; the message is its own, fit for a terminal. */
export class RefusedError extends Error {
  override readonly name = 'RefusedError';
  readonly status: number;

  constructor(status: number, body: string) {
    super(answerMessage(body));
    this.status = status;
  }
}

/** Whether asking again would bring the same answer. */
export function isFinal(status: number): boolean {
  return status < 500 && ![408, 425, 429].includes(status);
}

const projectsShape = z.object({
  projects: z.array(
    z.object({
      id: z.string(),
      name: z.string(),
      environments: z.array(z.object({ key: z.string() })),
    }),
  ),
});

const messageShape = z.object({ message: z.string() });

const uuidShape = z.guid();

/**
 * The channel that the user means by a project's id or name and an environment's key.
 *
 * @throws CommandError for one that the token's user may not see; RefusedError; whatever the
 *   network throws.
 */
export async function findChannel(options: {
  readonly serverUrl: URL;
  readonly project: string;
  readonly environmentKey: string;
  readonly token: string;
  readonly stop: AbortSignal;
}): Promise<TailChannel> {
  const { serverUrl, project, environmentKey, token, stop } = options;
  const projects = await readProjects(serverUrl, token, stop);
  const found = projects.find(({ id }) => id === project) ?? projects.find(({ name }) => name === project);
  if (found === undefined) {
    // An archived project is on no list, but can be watched.
    if (uuidShape.safeParse(project).success) {
      return { projectId: project, environmentKey, label: `${project} / ${environmentKey}` };
    }
    throw new CommandError(
      `This user sees no project "${printable(project)}"; ${choice(projects.map(({ name }) => `"${name}"`))}`,
    );
  }
  const keys = found.environments.map(({ key }) => key);
  if (!keys.includes(environmentKey)) {
    throw new CommandError(
      `The project "${printable(found.name)}" has no environment "${printable(environmentKey)}"; ${choice(keys)}`,
    );
  }
  return { projectId: found.id, environmentKey, label: `${found.name} / ${environmentKey}` };
}

async function readProjects(
  serverUrl: URL,
  token: string,
  stop: AbortSignal,
): Promise<z.output<typeof projectsShape>['projects']> {
  const response = await fetch(new URL('api/projects', serverUrl), {
    headers: { Authorization: `Bearer ${token}` },
    signal: AbortSignal.any([stop, AbortSignal.timeout(REQUEST_TIMEOUT_MS)]),
  }).catch((error: unknown) => {
    // fetch says no more than "fetch failed"; the reason is its cause.
    throw error instanceof TypeError && error.cause instanceof Error ? error.cause : error;
  });
  const body = await response.text();
  if (!response.ok) throw new RefusedError(response.status, body);
  const answer = projectsShape.safeParse(parseJson(body));
  if (answer.success) return answer.data.projects;
  throw new CommandError(`There is no Flagcast server at ${serverUrl.origin}; give its address with --url`);
}

/** How a connection ended that had been open. */
export interface Ended {
  readonly code: number;
  readonly reason: string;
  readonly lastedMs: number;
}

/**
 * Watches the channel until the connection ends or `stop` is aborted. A line that went dead without a word is noticed within half a minute. While `onMessage`
 * answers false, nothing more is read until the standard output has drained.
 *
 * @throws RefusedError; whatever the network throws.
 */
export async function watchChannel(options: {
  readonly serverUrl: URL;
  readonly channel: TailChannel;
  readonly token: string;
  readonly stop: AbortSignal;
  readonly onOpen: () => void;
  readonly onMessage: (text: string) => boolean;
}): Promise<Ended> {
  const { serverUrl, channel, token, stop, onOpen, onMessage } = options;
  const url = new URL('api/ws', serverUrl);
  url.protocol = serverUrl.protocol === 'https:' ? 'wss:' : 'ws:';
  url.searchParams.set('project_id', channel.projectId);
  url.searchParams.set('env', channel.environmentKey);
  const socket = new WebSocket(url, {
    headers: { Authorization: `Bearer ${token}` },
    handshakeTimeout: REQUEST_TIMEOUT_MS,
  });

  let openedAtMs = Infinity;
  let lives = true;
  const answered = (): void => {
    lives = true;
  };
  const probe = setInterval(() => {
    // What we do not read cannot answer.
    if (socket.isPaused || socket.readyState !== WebSocket.OPEN) return;
    if (!lives) {
      socket.terminate();
      return;
    }
    lives = false;
    socket.ping();
  }, PROBE_INTERVAL_MS);
  const leave = (): void => {
    socket.resume();
    socket.close(1000);
    setTimeout(() => socket.terminate(), CLOSE_TIMEOUT_MS).unref();
  };
  try {
    return await new Promise((resolve, reject) => {
      socket.on('open', () => {
        openedAtMs = performance.now();
        onOpen();
      });
      socket.on('pong', answered);
      socket.on('ping', answered);
      socket.on('message', (data) => {
        answered();
        if (onMessage((data as Buffer).toString('utf8'))) return;
        socket.pause();
        process.stdout.once('drain', () => socket.resume());
      });
      socket.on('unexpected-response', (_request, response) => {
        readAnswer(response).then((body) => reject(new RefusedError(response.statusCode ?? 0, body)), reject);
      });
      socket.on('error', (error) => {
        // What breaks an open connection also closes it, which is heard below.
        if (openedAtMs === Infinity) reject(error);
      });
      socket.on('close', (code, reason) => {
        resolve({ code, reason: reason.toString('utf8'), lastedMs: performance.now() - openedAtMs });
      });
      stop.addEventListener('abort', leave, { once: true });
      if (stop.aborted) leave();
    });
  } finally {
    clearInterval(probe);
    stop.removeEventListener('abort', leave);
  }
}

async function readAnswer(response: IncomingMessage): Promise<string> {
  let body = '';
  for await (const chunk of response.setEncoding('utf8')) {
    body += String(chunk);
    if (body.length > MAX_ANSWER_CHARS) break;
  }
  return body;
}

/** The message of an answer `{"code":..., "message":...}`; of another one its beginning. */
function answerMessage(body: string): string {
  const answer = messageShape.safeParse(parseJson(body));
  if (answer.success) return scrub(answer.data.message);
  const text = scrub(body).slice(0, 200).trim();
  return text === '' ? 'no reason given' : text;
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function choice(names: readonly string[]): string {
  return names.length === 0 ? 'there is none to choose from' : `give one of ${printable(names.join(', '))}`;
}
