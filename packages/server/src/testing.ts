/** What the harnesses in testing/ need of the server. Not a public interface: it changes with them. */
export { install } from './install/install.js';
export { createLogger, logLifecycle } from './operations/log.js';

// The parsers of what clients, hosts and operators send.
export { createOriginPolicy } from './auth/origin-policy.js';
export { asksForSubscription, cursorFromQuery, subscriptionFromQuery } from './auth/request-target.js';
export { redactUrl, subprotocolsOf, tokenFromRequest } from './auth/request-token.js';
export { createTokenVerifier } from './auth/token-verifier.js';
export { createTrustedProxies } from './auth/trusted-proxies.js';
export { ConfigError, loadConfig } from './cli/config.js';
export { parseClientMessage } from './connections/codecs/client-message.js';
export { textFrame } from './connections/codecs/frame.js';
export { answerPlain } from './connections/codecs/plain.js';
export { scrub } from './describe.js';
export { covers, decodeCursor, encodeCursor, maxId, uncoveredRanges } from './events/position.js';
export { HttpProblem } from './http-problem.js';
