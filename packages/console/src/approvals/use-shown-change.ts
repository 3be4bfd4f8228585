import { useState } from 'react';
import type { OpenChange } from '../api/types.js';
import { stampOf } from './requests.js';

/** Keeps what the user looks at: an edited request replaces it only on demand, a decided one at once. */
export function useShownChange(latest: OpenChange) {
  const [shown, setShown] = useState(latest);
  const [before, setBefore] = useState<OpenChange | null>(null);
  /** The state in a refusal is newer than `latest`, until that changes. */
  const [refusal, setRefusal] = useState<{ readonly after: OpenChange; readonly now: OpenChange } | null>(
    null,
  );
  const now = refusal?.after === latest ? refusal.now : latest;
  const isSame = stampOf(now) === stampOf(shown);
  const isDecided = now.status !== 'pending';
  return {
    shown: isDecided ? now : isSame ? { ...now, entities: shown.entities } : shown,
    /** What it showed before the user asked to see the change; null if nothing has changed. */
    before,
    /** The request or one of its flags is in another state than shown. Nothing can be decided until `showNow`. */
    isOutdated: !isDecided && !isSame,
    showNow: () => {
      setBefore(shown);
      setShown(now);
    },
    /** Call it when the server says that the request is in another state than shown. */
    moved: (current: OpenChange) => {
      setRefusal({ after: latest, now: current });
      // A conflict has no new version: only the current values are added.
      if (stampOf(current) === stampOf(shown)) setShown(current);
    },
  };
}
