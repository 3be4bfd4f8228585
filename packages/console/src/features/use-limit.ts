import { useI18n } from '../i18n/i18n.js';
import { countCharacters } from '../i18n/visible.js';

/** Counts a text while it is typed. It is never cut. */
export function useLimit() {
  const { t } = useI18n();
  return (text: string, most: number): { readonly note: string | null; readonly tooLong: string | null } => {
    const count = countCharacters(text);
    return {
      // Only near the limit.
      note: count > most * 0.8 ? t.shell.length(count, most) : null,
      tooLong: count > most ? t.shell.tooLong(count - most) : null,
    };
  };
}
