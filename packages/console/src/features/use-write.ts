import { useState } from 'react';
import { ApiError } from '../api/api.js';
import { useNotifications } from '../shell/notifications.js';
import { useApi } from '../sign-in/app-services.js';
import { useI18n } from '../i18n/i18n.js';

/** What became of a write: done, waiting for its approval, in need of a reason, or refused. */
type WriteOutcome = 'done' | 'requested' | 'reason_needed' | ApiError;

export interface Write {
  readonly busy: boolean;
  /** Sends the write and tells the user what became of it, unless `quiet` names the refusal's code. */
  readonly send: (
    method: 'POST' | 'PATCH' | 'DELETE',
    path: string,
    body: unknown,
    quiet?: readonly string[],
  ) => Promise<WriteOutcome>;
}

/** Writes to the server; what has changed comes back as an event, as for everybody else. */
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
        // The server knows of guards that the page does not: those of a flag by its tag, and new ones.
        if (error.code === 'invalid' && error.fields['reason'] !== undefined) return 'reason_needed';
        if (!quiet.includes(error.code)) notifyError(error);
        return error;
      } finally {
        setBusy(false);
      }
    },
  };
}
