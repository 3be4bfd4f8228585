import type { HttpBindings } from '@hono/node-server';
import type { MiddlewareHandler } from 'hono';
import type { OriginPolicy } from '../auth/origin-policy.js';

/** What a preflight is told of every path alike: what there is not says so itself, in an answer that the page can read. */
const preflightHeaders: Readonly<Record<string, string>> = {
  'Access-Control-Allow-Methods': 'GET, POST, PATCH, DELETE',
  'Access-Control-Allow-Headers': 'Authorization, Content-Type, Last-Event-ID',
  // As long as any browser keeps it. It lets nobody in: the request itself is looked at again.
  'Access-Control-Max-Age': '7200',
};

/**
 * Lets pages of listed origins read the answers (CORS), and answers their preflights with 204. Pages of other
 * origins are answered as if there were no such thing; whether anything is done for them is the authorizer's to say.
 * Credentials are never asked for: a cookie of the host's goes to pages of its own origin alone.
 */
export function crossOrigin(policy: OriginPolicy): MiddlewareHandler<{ Bindings: HttpBindings }> {
  return async (context, next) => {
    const { incoming, outgoing } = context.env;
    // On the response itself: streams are not written by the framework, and a host may have headers of its own there.
    outgoing.appendHeader('Vary', 'Origin');
    const reader = policy.readerOf(incoming);
    if (reader !== null) {
      outgoing.setHeader('Access-Control-Allow-Origin', reader);
      outgoing.setHeader('Access-Control-Expose-Headers', 'Retry-After');
      const isPreflight =
        incoming.method === 'OPTIONS' && incoming.headers['access-control-request-method'] !== undefined;
      if (isPreflight) return context.body(null, 204, preflightHeaders);
    }
    await next();
    return undefined;
  };
}
