import type { IncomingMessage } from 'node:http';

/** Where a request carried its token. */
export interface RequestToken {
  readonly token: string;
  readonly via: 'header' | 'subprotocol' | 'query';
}

/** What a browser, which cannot set headers on a WebSocket, puts before the token; `token.` is Togglr's. */
const TOKEN_SUBPROTOCOL = /^(?:bearer|token)\.(.*)$/;
const QUERY_PARAMETERS_WITH_TOKENS = new Set(['token', 'access_token', 'refresh_token', 'id_token']);
/** The letters that a JWT is made of, so that a long URL is looked through once and not from each of its letters. */
const JWT_LETTERS = /(?:[\w.-]|%2e)+/gi;

/**
 * The token of a request, unchecked, or null if it has none: from `Authorization: Bearer`, else
 * from a subprotocol `bearer.<token>` or `token.<token>`, else, only with `allowQueryToken`,
 * from the query parameter `token`. Never throws.
 */
export function tokenFromRequest(
  request: Pick<IncomingMessage, 'headers' | 'url'>,
  options: { readonly allowQueryToken: boolean },
): RequestToken | null {
  const inHeader = /^bearer +([^ ].*)$/i.exec(request.headers.authorization ?? '')?.[1];
  if (inHeader !== undefined) return { token: inHeader, via: 'header' };

  for (const protocol of offeredProtocols(request)) {
    const inProtocol = TOKEN_SUBPROTOCOL.exec(protocol)?.[1];
    if (inProtocol) return { token: inProtocol, via: 'subprotocol' };
  }

  if (options.allowQueryToken) {
    const inQuery = new URLSearchParams(splitAtQuery(request.url ?? '')[1]).get('token');
    if (inQuery) return { token: inQuery, via: 'query' };
  }
  return null;
}

/** The subprotocols that a client offers, in its order, without those that carry a token: never echo one. */
export function subprotocolsOf(request: Pick<IncomingMessage, 'headers'>): string[] {
  return offeredProtocols(request).filter((protocol) => !TOKEN_SUBPROTOCOL.test(protocol));
}

/**
 * A request's URL, fit for a log: the values of query parameters that carry tokens, and
 * whatever else looks like a JWT, are replaced by `[redacted]`. Never throws.
 */
export function redactUrl(url: string): string {
  const [path, query] = splitAtQuery(url);
  const redactedQuery = query.split('&').map((parameter) => {
    // The same decoding that finds the token: `%74oken=` is one too.
    const [name] = new URLSearchParams(parameter).keys();
    if (name === undefined || !QUERY_PARAMETERS_WITH_TOKENS.has(name.toLowerCase())) return parameter;
    return `${parameter.split('=', 1)[0] ?? ''}=[redacted]`;
  });
  const redacted = path.length === url.length ? path : `${path}?${redactedQuery.join('&')}`;
  return redacted.replace(JWT_LETTERS, redactJwt);
}

/** A JWT begins with `{"` in base64 and has three parts. */
function redactJwt(letters: string): string {
  const start = letters.indexOf('eyJ');
  if (start === -1 || letters.slice(start).split(/\.|%2e/i).length < 3) return letters;
  return `${letters.slice(0, start)}[redacted]`;
}

function offeredProtocols(request: Pick<IncomingMessage, 'headers'>): string[] {
  return (request.headers['sec-websocket-protocol'] ?? '')
    .split(',')
    .map((protocol) => protocol.trim())
    .filter((protocol) => protocol !== '');
}

function splitAtQuery(url: string): [path: string, query: string] {
  const start = url.indexOf('?');
  return start === -1 ? [url, ''] : [url.slice(0, start), url.slice(start + 1)];
}
