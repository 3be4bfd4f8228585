import type { OpenChange } from '../api/types.js';
import type { Messages } from '../i18n/en.js';
import { visible } from '../i18n/visible.js';

/** E.g. `Approved by alice`. */
export function decisionText({ approvals }: Messages, status: string, by: string | null): string {
  const decided: Readonly<Record<string, (who: string | null) => string>> = approvals.decided;
  return (Object.hasOwn(decided, status) ? decided[status]?.(by) : undefined) ?? visible(status);
}

/** What has happened, in one line: `bob requested a change to X`, or `X: approved by alice`. */
export function concernText(
  { status, requested_by: by, decided_by, entities }: OpenChange,
  t: Messages,
): string {
  const name = entities.find(({ feature_id: id }) => id !== null)?.feature_name ?? null;
  if (status === 'pending') return t.approvals.cardLabel(by, name);
  return `${visible(name ?? t.approvals.deletedFeature)}: ${decisionText(t, status, decided_by)}`;
}
