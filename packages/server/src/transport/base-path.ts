import type { IncomingMessage, ServerResponse } from 'node:http';
import { hasCanonicalPath } from '../auth/request-target.js';

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
