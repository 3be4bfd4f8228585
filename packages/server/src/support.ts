/** What the other packages of Flagcast need of the server. Not a public interface: it changes with them. */
// One copy for the server and its console: an app only takes over the document of an app of its own class.
export { createRoute, OpenAPIHono, z } from '@hono/zod-openapi';
export type { ConsoleContext, ConsoleFactory } from './api/app.js';
export { RequestSlots } from './api/request-limits.js';
export {
  acceptsGzip,
  invalidFields,
  invalidInput,
  JsonText,
  limitBody,
  sendError,
  sendJson,
  sendProblem,
} from './api/responses.js';
export * as apiSchemas from './api/schemas.js';
export { defaultHeaders } from './transport/http-server.js';
export { HttpProblem } from './http-problem.js';
export { scrub, toError } from './describe.js';
export type { Lifecycle } from './lifecycle.js';
export { backoffMs, isWorthLogging, retry } from './retry.js';

export type { Channel } from './auth/authorization.js';
export type { Principal } from './auth/request-authorizer.js';
export { channelFromQuery } from './auth/request-target.js';
export { networkOf } from './auth/trusted-proxies.js';

export { CommitOutcomeUnknownError, isMissing, isUndecodable } from './postgres/errors.js';
export type { Queries, SessionSource } from './postgres/session-pool.js';
export { inTransaction } from './postgres/statements.js';

export type {
  CreateRelay,
  Relay,
  RelayContext,
  RelayedReader,
  RelaySession,
  RelayTopic,
  TopicReceiver,
} from './broadcast/relay.js';
export { NewestStates } from './broadcast/replay-buffer.js';
export { dataFiles, readPrivateFile, readSecret } from './cli/data-folder.js';
export { parseRelayUrl } from './cli/setting-parsers.js';
export { byChannel } from './events/event.js';
export type { Batch, ControlEntry, FlagEvent, PartialRead, ReadState, RelayedRead } from './events/event.js';
export { covers } from './events/position.js';
export type { Coverage, Position } from './events/position.js';

// Togglr's tables, as the reader and the snapshots read them.
export { type Author, type FeatureWrite, setGuard, writeAudit } from './host/audit-log.js';
export { auditFeatureState, featureJson, ruleState, scheduleState } from './host/feature-state.js';
export { readTogglrFeatures } from './host/host-schema.js';
export {
  canReadSteps,
  isRequest,
  lastStep,
  requestedEntitiesJson,
  requestEntities,
  requestReason,
} from './host/pending-change.js';
export { decidableProjects, findDecidable, readRights, type Rights } from './host/rights.js';
export {
  isoUtc,
  requestedDiff,
  requestedDiffWithCurrent,
  requestedEntity,
  shownJson,
} from './host/sql-expressions.js';
