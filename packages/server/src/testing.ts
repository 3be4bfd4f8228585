/** What the harnesses in testing/ need of the server. Not a public interface: it changes with them. */
export { install } from './install/install.js';
export { createLogger, logLifecycle } from './operations/log.js';
