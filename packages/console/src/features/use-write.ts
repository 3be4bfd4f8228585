import { useState } from 'react';
import { ApiError } from '../api/api.js';
import { useNotifications } from '../shell/notifications.js';
import { useApi } from '../sign-in/app-services.js';
import { useI18n } from '../i18n/i18n.js';

/** The outcome of a write; `requested`: it needs approval, `reason_needed`: it needs approval and a reason. */
type WriteOutcome = 'done' | 'requested' | 'reason_needed' | ApiError;

export interface Write {
  readonly busy: boolean;
  /** Sends the write and notifies the user of the outcome, except for errors with a code in `quiet`. */
  readonly send: (
    method: 'POST' | 'PATCH' | 'DELETE',
    path: string,
    body: unknown,
    quiet?: readonly string[],
  ) => Promise<WriteOutcome>;
}

/** Writes to the REST API. The change arrives as an event. */
export function useWrite(): Write {
  const api = useApi();
  const { t } = useI18n();
  const { notify, notifyError } = useNotifications();
  const [busy, setBusy] = useState(false);
  return {
    busy,
    send: async (method, path, body, quiet = []) => {
      setBusy(true);
      try {
        const { status } = await api.send(method, path, body);
        if (status !== 202) return 'done';
        notify('success', t.features.requested);
        return 'requested';
      } catch (error) {
        if (!(error instanceof ApiError)) throw error;
        // The page does not know all guards: the one by a flag's tag, and new ones.
        if (error.code === 'invalid' && error.fields['reason'] !== undefined) return 'reason_needed';
        if (!quiet.includes(error.code)) notifyError(error);
        return error;
      } finally {
        setBusy(false);
      }
    },
  };
}
