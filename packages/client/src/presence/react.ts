/**
 * A hook for `@flagcast/client/presence`.
 *
 * @module @flagcast/client/presence/react
 */
'use client';

import { useEffect, useState, useSyncExternalStore } from 'react';
import type { Client } from '../client.js';
import { noOthers, type Presence, presence, type PresenceState, type PresenceSubject } from './index.js';

const getNoOthers = (): PresenceState => noOthers;
const neverChanges = () => () => undefined;

/**
 * Announces that the user has `subject` open, and edits its `field`, while the component is mounted. Returns who else
 * has. Without a subject it announces nothing.
 */
export function usePresence(
  client: Client,
  subject: PresenceSubject | null,
  field: string | null = null,
): PresenceState {
  const [view, setView] = useState<Presence | null>(null);
  // A subject that is written in the rendering is a new object each time.
  const key = JSON.stringify(subject);
  useEffect(() => {
    const current = JSON.parse(key) as PresenceSubject | null;
    if (!current) return;
    const opened = presence(client, current);
    setView(opened);
    return () => {
      setView(null);
      opened.close();
    };
  }, [client, key]);
  useEffect(() => view?.setField(field), [view, field]);
  return useSyncExternalStore(view?.subscribe ?? neverChanges, view?.getState ?? getNoOthers, getNoOthers);
}
