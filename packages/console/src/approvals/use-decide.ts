import { useState } from 'react';
import { ApiError } from '../api/api.js';
import type { OpenChange } from '../api/types.js';
import { useFieldName } from '../feature/diff-list.js';
import { useNotifications } from '../shell/notifications.js';
import { useApi } from '../sign-in/app-services.js';
import { useI18n } from '../i18n/i18n.js';
import { type Conflict, decisionText, seenOf, withConflicts } from './requests.js';

export type Step = 'approve' | 'reject' | 'cancel';

/** `refused`: the user has to look again; `retry`: the same dialog may send it again. */
type Outcome = 'done' | 'refused' | 'retry';

/** Decides on a request as it is shown. `onMoved` is called with its state now, if it is another one. */
export function useDecide(change: OpenChange, onMoved: (now: OpenChange) => void) {
  const { t } = useI18n();
  const api = useApi();
  const { notify, notifyError } = useNotifications();
  const fieldName = useFieldName();
  const [busy, setBusy] = useState<Step | null>(null);

  const notifyRefusal = (error: ApiError): void => {
    if (error.code === 'already_decided') {
      const { status, by } = error.body as { status: string; by: string | null };
      notify('error', t.approvals.alreadyDecided(decisionText(t, status, by)));
    } else if (error.code === 'conflict') {
      const { conflicts = [] } = error.body as { conflicts?: readonly Conflict[] };
      notify('error', t.approvals.conflictWith(conflicts.map(({ field }) => fieldName(field)).join(', ')));
      onMoved(withConflicts(change, conflicts));
    } else if (error.code === 'stale_request') {
      notify('error', t.errors.stale_request);
      onMoved(error.body['pending_change'] as OpenChange);
    } else notifyError(error);
  };
  /** Sends the decision and notifies the user of the outcome. */
  const decide = async (step: Step, body: object = {}): Promise<Outcome> => {
    setBusy(step);
    try {
      const sent = step === 'cancel' ? body : { ...seenOf(change), ...body };
      await api.send('POST', `/api/pending-changes/${change.id}/${step}`, sent);
      notify('success', t.approvals.done[step]);
      return 'done';
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      notifyRefusal(error);
      return error.status === 409 ? 'refused' : 'retry';
    } finally {
      setBusy(null);
    }
  };
  return { busy, decide };
}
