/**
 * An event in the plain dialect: exactly these eight keys, nothing else, so that any
 * client written to the specification works.
 */
export interface PlainMessage {
  /** Where the event was read: `audit` (it happened) or `pending` (a step of an approval). */
  source: string;
  /** `<entity>_<action>`, e.g. `feature_updated`; for approvals `pending_change_created`, `..._approved`, `..._rejected`, `..._cancelled`. */
  type: string;
  /** RFC 3339 in UTC, up to microseconds. */
  timestamp: string;
  project_id: string;
  /** The environment's key, e.g. `prod`. */
  environment: string;
  entity: string;
  entity_id: string;
  /** `created`, `updated`, `deleted`; for approvals `pending`, `approved`, `rejected`, `cancelled`. */
  action: string;
}
