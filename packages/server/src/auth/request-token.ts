import type { IncomingMessage } from 'node:http';

/** Browsers cannot set headers of a WebSocket, so the token is a subprotocol; `token.` is Togglr's prefix. */
const tokenSubprotocol = /^(?:bearer|token)\.(.*)$/;
const tokenParameters = new Set(['token', 'access_token', 'refresh_token', 'id_token']);
/** All characters of a JWT, so that a long URL is scanned once and not from each of its characters. */
const jwtCharacters = /(?:[\w.-]|%2e)+/gi;

/**
 * The unchecked token of a request, or null: from `Authorization: Bearer`, else from a subprotocol `bearer.<token>` or
 * `token.<token>`, else, only with `allowQueryToken`, from the query parameter `token`. Never throws.
 */
export function tokenFromRequest(
  request: Pick<IncomingMessage, 'headers' | 'url'>,
  options: { readonly allowQueryToken: boolean },
): string | null {
  const inHeader = /^bearer +([^ ].*)$/i.exec(request.headers.authorization ?? '')?.[1];
  if (inHeader !== undefined) return inHeader;
  for (const protocol of offeredProtocols(request)) {
    const inProtocol = tokenSubprotocol.exec(protocol)?.[1];
    if (inProtocol) return inProtocol;
  }
  if (options.allowQueryToken) {
    return new URLSearchParams(splitAtQuery(request.url ?? '')[1]).get('token') || null;
  }
  return null;
}

/** The subprotocols that a client offers, in its order, without those that carry a token: never echo one. */
export function subprotocolsOf(request: Pick<IncomingMessage, 'headers'>): string[] {
  return offeredProtocols(request).filter((protocol) => !tokenSubprotocol.test(protocol));
}

/** A URL for the log: values of query parameters with tokens, and texts like a JWT, are `[redacted]`. Never throws. */
export function redactUrl(url: string): string {
  const [path, query] = splitAtQuery(url);
  const parameters = query.split('&').map((parameter) => {
    // Decoded as in tokenFromRequest: `%74oken=` is one, too.
    const [name] = new URLSearchParams(parameter).keys();
    if (name === undefined || !tokenParameters.has(name.toLowerCase())) return parameter;
    return `${parameter.split('=', 1)[0] ?? ''}=[redacted]`;
  });
  const redacted = path.length === url.length ? path : `${path}?${parameters.join('&')}`;
  return redacted.replace(jwtCharacters, redactJwt);
}

/** A JWT begins with `{"` in base64 and has three parts. */
function redactJwt(text: string): string {
  const start = text.indexOf('eyJ');
  if (start === -1 || text.slice(start).split(/\.|%2e/i).length < 3) return text;
  return `${text.slice(0, start)}[redacted]`;
}

function offeredProtocols({ headers }: Pick<IncomingMessage, 'headers'>): string[] {
  const offered = (headers['sec-websocket-protocol'] ?? '').split(',');
  return offered.map((protocol) => protocol.trim()).filter((protocol) => protocol !== '');
}

function splitAtQuery(url: string): [path: string, query: string] {
  const start = url.indexOf('?');
  return start === -1 ? [url, ''] : [url.slice(0, start), url.slice(start + 1)];
}
