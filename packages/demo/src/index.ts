export { type Demo, demoBanner, type DemoOptions, startDemo } from './demo.js';
export { startTraffic, type Traffic, type TrafficOptions } from './company/traffic.js';
export { fillDemo } from './company/fill.js';
export { type DemoProject, type DemoUser, demoProjects, demoUsers } from './company/company.js';
export { type EmbeddedPostgres, startEmbeddedPostgres } from './embedded/embedded.js';
export { EmbeddedPostgresError, type EmbeddedPostgresErrorCode } from './embedded/embedded-error.js';
