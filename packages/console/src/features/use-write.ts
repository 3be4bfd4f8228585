import { useState } from 'react';
import { ApiError } from '../api/api.js';
import { useNotifications } from '../shell/notifications.js';
import { useApi } from '../sign-in/app-services.js';
import { useI18n } from '../i18n/i18n.js';

/** The outcome of a write; `requested`: it needs approval, `reason_needed`: it needs approval and a reason. */
type WriteOutcome<Body> =
  | { readonly state: 'done'; readonly body: Body }
  | { readonly state: 'requested' | 'reason_needed' }
  | { readonly state: 'failed'; readonly error: ApiError };

/** Writes to the REST API. The change arrives as an event. */
export function useWrite() {
  const api = useApi();
  const { t } = useI18n();
  const { notify, notifyError } = useNotifications();
  const [busy, setBusy] = useState(false);
  /** Sends the write and notifies the user of the outcome, except for errors that are `quiet`. */
  // oxlint-disable-next-line typescript/no-unnecessary-type-parameters -- the caller names the type of the body
  const send = async <Body>(
    method: 'POST' | 'PATCH' | 'DELETE',
    path: string,
    body: unknown,
    isQuiet: (error: ApiError) => boolean = () => false,
  ): Promise<WriteOutcome<Body>> => {
    setBusy(true);
    try {
      const response = await api.send<Body>(method, path, body);
      if (response.status !== 202) return { state: 'done', body: response.body };
      notify('success', t.features.requested);
      return { state: 'requested' };
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      // The page does not know all guards: the one by a flag's tag, and new ones.
      if (error.code === 'invalid' && error.fields['reason'] !== undefined) return { state: 'reason_needed' };
      if (!isQuiet(error)) notifyError(error);
      return { state: 'failed', error };
    } finally {
      setBusy(false);
    }
  };
  return { busy, send };
}
