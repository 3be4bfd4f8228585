import { useMemo } from 'react';
import { useScope } from '../shell/scope.js';

/** What the user has begun to write. It survives navigation, reloads, errors and a new sign-in in this tab. */
export interface Draft<Value> {
  /** Null if there is none. */
  readonly read: () => Value | null;
  /** Null removes it. */
  readonly write: (value: Value | null) => void;
}

/** The draft with this name of the signed-in user. */
export function useDraft<Value>(name: string): Draft<Value> {
  const key = `flagcast.draft ${useScope().me.user.id} ${name}`;
  return useMemo(
    () => ({
      read: () => {
        try {
          return JSON.parse(sessionStorage.getItem(key) ?? 'null') as Value | null;
        } catch {
          return null;
        }
      },
      write: (value) => {
        try {
          if (value === null) sessionStorage.removeItem(key);
          else sessionStorage.setItem(key, JSON.stringify(value));
        } catch {
          // The storage is full or forbidden: the form itself still has the text.
          sessionStorage.removeItem(key);
        }
      },
    }),
    [key],
  );
}
