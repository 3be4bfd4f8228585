import type { IncomingMessage, ServerResponse } from 'node:http';
import type { ChannelRequest, SubscriptionRequest } from './authorization.js';
import { HttpProblem } from '../http-problem.js';

/** An encoded character that needs no encoding, or one that separates or climbs segments once it is decoded. */
const hiddenCharacter = /%(?:2[def]|3\d|4[1-9a-f]|5[\dacf]|6[1-9a-f]|7[\dae])/i;

/**
 * Whether the path of a request target has exactly one spelling: it begins with a slash, no segment is empty or a dot
 * segment, and nothing is encoded that a proxy could decode to another path (`/%6detrics`, `/./metrics`, `//api`,
 * `/a%2fb`, `/a\b`). An absolute target (`http://host/path`) has a second host and counts as not canonical.
 */
export function hasCanonicalPath(target: string): boolean {
  const [path = ''] = target.split('?', 1);
  if (!/^\/(?:[\w.~!$&'()*+,;=:@/|[\]^-]|%[\da-f]{2})*$/i.test(path)) return false;
  return !/\/(?:\/|\.{1,2}(?:\/|$))/.test(path) && !hiddenCharacter.test(path);
}

/** Throws an Error unless the text is a path such as `/flagcast`, or empty. */
export function checkBasePath(text: string): void {
  if (text === '' || (text.startsWith('/') && !/\?|\/$/.test(text) && hasCanonicalPath(text))) return;
  throw new Error(`The base path ${JSON.stringify(text)} is not a path: give one such as /flagcast`);
}

/** The target without the base path; null if it is not below it. */
export function withoutBasePath(target: string, basePath: string): string | null {
  return target.startsWith(`${basePath}/`) ? target.slice(basePath.length) : null;
}

/** The target as the client sent it: Express removes the path of a router. */
export function originalTarget({ url = '', originalUrl = url }: OriginalRequest): string {
  return originalUrl;
}

type OriginalRequest = Pick<IncomingMessage, 'url'> & { readonly originalUrl?: string };

/**
 * Removes the base path from the target of a request. Returns whether it has answered it: relative paths of the console
 * need the slash at the end of the base path. Other targets stay: a probe may ask for `/readyz`.
 */
export function removeBasePath(
  request: IncomingMessage,
  response: ServerResponse,
  basePath: string,
): boolean {
  const [path, query] = originalTarget(request).split(/(?=\?)/, 2);
  if (basePath !== '' && path === basePath) {
    response.writeHead(308, { Location: `${basePath}/${query ?? ''}` }).end();
    return true;
  }
  request.url = withoutBasePath(request.url ?? '', basePath) ?? request.url ?? '';
  return false;
}

const channelParameters = ['project_id', 'env', 'env_id', 'environment_id'];

/** Whether a query string names a channel or a feed. */
export function asksForSubscription(query: URLSearchParams): boolean {
  return ['feed', 'cursor', ...channelParameters].some((name) => query.has(name));
}

/** The channel that a query string names, or the feed: `feed=approvals`. Throws HttpProblem. */
export function subscriptionFromQuery(query: URLSearchParams): SubscriptionRequest {
  const feed = parameter(query, 'feed');
  if (feed === null) return channelFromQuery(query);
  if (feed !== 'approvals') {
    throw new HttpProblem('not_found', 'There is no such feed: the only feed is feed=approvals');
  }
  if (channelParameters.some((name) => query.has(name))) {
    throw new HttpProblem(
      'conflicting_parameters',
      'Give feed or a channel, not both: the feed contains all channels that you may see',
    );
  }
  return { feed, scope: parameter(query, 'scope') };
}

/** The cursor to resume from, or null. Throws HttpProblem. */
export function cursorFromQuery(query: URLSearchParams): string | null {
  return parameter(query, 'cursor');
}

/** The channel that a query string names: `project_id` and one of `env`, `env_id`, `environment_id`. Throws HttpProblem. */
export function channelFromQuery(query: URLSearchParams): ChannelRequest {
  const projectId = parameter(query, 'project_id');
  if (projectId === null || projectId === '') {
    throw new HttpProblem(
      'missing_parameter',
      'The parameter project_id is missing: the id of the project to watch',
    );
  }
  const environmentKey = parameter(query, 'env');
  const [environmentId, ...others] = [parameter(query, 'env_id'), parameter(query, 'environment_id')].filter(
    (value) => value !== null,
  );
  if (others.length > 0 || (environmentKey !== null && environmentId !== undefined)) {
    throw new HttpProblem(
      'conflicting_parameters',
      'Give one of env, env_id and environment_id, not several',
    );
  }
  if (environmentKey !== null && environmentKey !== '') return { projectId, environmentKey };
  if (environmentId !== undefined && environmentId !== '') return { projectId, environmentId };
  throw new HttpProblem(
    'missing_parameter',
    'The parameter env is missing: the key of the environment to watch, e.g. env=prod (or env_id=<number>)',
  );
}

function parameter(query: URLSearchParams, name: string): string | null {
  const values = query.getAll(name);
  if (values.length > 1) {
    throw new HttpProblem('repeated_parameter', `The parameter ${name} is given more than once`);
  }
  return values[0] ?? null;
}
