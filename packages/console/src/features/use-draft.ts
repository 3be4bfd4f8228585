import { useMemo } from 'react';
import { useScope } from '../shell/scope.js';

/**
 * What the signed-in user has begun to write, by a name. It survives navigation, reloads, errors and a new sign-in in this
 * tab. Null: there is none.
 */
export function useDraft<Value>(name: string) {
  const key = `flagcast.draft ${useScope().me.user.id} ${name}`;
  return useMemo(
    () => ({
      read: (): Value | null => {
        try {
          return JSON.parse(sessionStorage.getItem(key) ?? 'null') as Value | null;
        } catch {
          return null;
        }
      },
      write: (value: Value | null): void => {
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
