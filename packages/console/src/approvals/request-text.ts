import type { OpenChange } from '../api/types.js';
import type { Messages } from '../i18n/en.js';
import { visible } from '../i18n/visible.js';
import { flagOf } from './requests.js';

/** E.g. `Approved by alice`. */
export function decisionText({ approvals }: Messages, status: string, by: string | null): string {
  const decided: Readonly<Record<string, (who: string | null) => string>> = approvals.decided;
  return (Object.hasOwn(decided, status) ? decided[status]?.(by) : undefined) ?? visible(status);
}

/** What has happened, in one line: `bob requested a change to X`, or `X: approved by alice`. */
export function concernText(change: OpenChange, t: Messages): string {
  const { status, requested_by: by, decided_by: decidedBy } = change;
  const name = flagOf(change)?.feature_name ?? null;
  if (status === 'pending') return t.approvals.cardLabel(by, name);
  return `${visible(name ?? t.approvals.deletedFeature)}: ${decisionText(t, status, decidedBy)}`;
}
