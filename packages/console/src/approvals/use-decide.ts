import { useQueryClient } from '@tanstack/react-query';
import { useState } from 'react';
import { ApiError } from '../api/api.js';
import type { OpenChange } from '../api/types.js';
import { useFieldName } from '../feature/diff-list.js';
import { useNotifications } from '../shell/notifications.js';
import { useApi } from '../sign-in/app-services.js';
import type { Messages } from '../i18n/en.js';
import { useI18n } from '../i18n/i18n.js';
import { visible } from '../i18n/visible.js';
import { openChangesKey } from './open-changes.js';

type Step = 'approve' | 'reject' | 'cancel';

interface Decide {
  /** The step in progress. */
  readonly busy: Step | null;
  /** Sends the decision and notifies the user of the outcome. Resolves with false if the password was wrong. */
  readonly decide: (step: Step, body?: object) => Promise<boolean>;
}

/** E.g. `Approved by alice`. */
export function decisionText({ approvals }: Messages, status: string, by: string | null): string {
  const decided: Readonly<Record<string, (who: string | null) => string>> = approvals.decided;
  return (Object.hasOwn(decided, status) ? decided[status]?.(by) : undefined) ?? visible(status);
}

/** What the user has seen: the server refuses a decision on anything else. */
function seenOf({ version, entities }: OpenChange): object {
  const versions = entities.flatMap(({ feature_id: id, feature_version: seen }) =>
    id === null || seen === null ? [] : [[id, seen] as const],
  );
  return { version, feature_versions: Object.fromEntries(versions) };
}

/** Decides on a request as it is shown. */
export function useDecide(change: OpenChange): Decide {
  const { t } = useI18n();
  const api = useApi();
  const queries = useQueryClient();
  const { notify, notifyError } = useNotifications();
  const fieldName = useFieldName();
  const [busy, setBusy] = useState<Step | null>(null);

  const notifyRefusal = (error: unknown): void => {
    if (error instanceof ApiError && error.code === 'already_decided') {
      const { status, by } = error.body as { status: string; by: string | null };
      notify('error', t.approvals.alreadyDecided(decisionText(t, status, by)));
    } else if (error instanceof ApiError && error.code === 'conflict') {
      const { conflicts = [] } = error.body as { conflicts?: readonly { field: string }[] };
      notify('error', t.approvals.conflictWith(conflicts.map(({ field }) => fieldName(field)).join(', ')));
    } else notifyError(error);
  };
  const decide: Decide['decide'] = async (step, body = {}) => {
    setBusy(step);
    try {
      const sent = step === 'cancel' ? body : { ...seenOf(change), ...body };
      await api.send('POST', `/api/pending-changes/${change.id}/${step}`, sent);
      notify('success', t.approvals.done[step]);
      return true;
    } catch (error) {
      notifyRefusal(error);
      void queries.invalidateQueries({ queryKey: openChangesKey });
      return !(error instanceof ApiError && error.code === 'password_wrong');
    } finally {
      setBusy(null);
    }
  };
  return { busy, decide };
}
