import { z } from 'zod';
import { printable, scrub } from '../describe.js';
import { CommandError } from './command.js';

const REQUEST_TIMEOUT_MS = 10_000;

/** What a question to the server takes; `stop` gives it up. */
export interface ServerAccess {
  readonly serverUrl: URL;
  readonly token: string;
  readonly stop: AbortSignal;
}

/** One environment of one project, as the server knows it. */
export interface TailChannel {
  readonly projectId: string;
  readonly environmentKey: string;
  /** For people: `Web shop / prod`. */
  readonly label: string;
}

/** The server's HTTP answer in place of what was asked for; the message has its own words, fit for a terminal. */
export class RefusedError extends Error {
  override readonly name = 'RefusedError';
  readonly status: number;

  constructor(status: number, body: string) {
    super(`the server refuses (HTTP ${status}): ${answerMessage(body)}`);
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
export async function findChannel(
  access: ServerAccess,
  { project, environmentKey }: { readonly project: string; readonly environmentKey: string },
): Promise<TailChannel> {
  const projects = await readProjects(access);
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

/** @throws RefusedError for a token that the server does not take; CommandError; whatever the network throws. */
export async function checkToken(access: ServerAccess): Promise<void> {
  await readProjects(access);
}

async function readProjects(access: ServerAccess): Promise<z.output<typeof projectsShape>['projects']> {
  const { serverUrl, token, stop } = access;
  const response = await fetch(new URL('api/projects', serverUrl), {
    headers: { Authorization: `Bearer ${token}` },
    signal: AbortSignal.any([stop, AbortSignal.timeout(REQUEST_TIMEOUT_MS)]),
  });
  const body = await response.text();
  if (!response.ok) throw new RefusedError(response.status, body);
  const answer = projectsShape.safeParse(parseJson(body));
  if (answer.success) return answer.data.projects;
  throw new CommandError(`There is no Flagcast server at ${serverUrl.origin}; give its address with --url`);
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
