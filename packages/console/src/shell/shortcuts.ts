/** What a shortcut does. */
export type Shortcut =
  | { readonly action: 'go'; readonly page: string }
  | { readonly action: 'search' | 'pause' | 'help' };

type Key = Pick<KeyboardEvent, 'key' | 'code' | 'shiftKey' | 'ctrlKey' | 'metaKey' | 'altKey' | 'timeStamp'>;

/** Longest time between the two keys of a sequence. */
const sequenceMs = 1_500;

const pages: ReadonlyMap<string, string> = new Map([
  ['f', 'features'],
  ['a', 'approvals'],
  ['v', 'activity'],
]);

const single: ReadonlyMap<string, Shortcut> = new Map([
  ['/', { action: 'search' }],
  ['p', { action: 'pause' }],
  ['?', { action: 'help' }],
]);

/**
 * Returns a function that finds the shortcut which a key completes: `/` search, `g` and the letter of a page, `p` pause,
 * `?` help; null for other keys.
 */
export function createShortcutReader(): (key: Key) => Shortcut | null {
  let goSinceMs = -Infinity;
  return (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return null;
    const key = latinKey(event);
    const page = event.timeStamp - goSinceMs < sequenceMs ? pages.get(key) : undefined;
    goSinceMs = key === 'g' ? event.timeStamp : -Infinity;
    return page === undefined ? (single.get(key) ?? null) : { action: 'go', page };
  };
}

/** The keys that open the palette. */
export const paletteKeys = [/Mac|iPhone|iPad/.test(navigator.userAgent) ? '⌘' : 'Ctrl', 'K'] as const;

/** Ctrl+K, on a Mac Cmd+K. */
export function isPaletteKey(event: Key): boolean {
  return event.ctrlKey !== event.metaKey && !event.altKey && !event.shiftKey && latinKey(event) === 'k';
}

/** The Latin character of the key, also in a layout with other letters, such as a Russian one. */
function latinKey({ key, code, shiftKey }: Key): string {
  if (/^[ -~]/.test(key) && !/^[.,]$/.test(key)) return key;
  if (code === 'Slash') return shiftKey ? '?' : '/';
  return code.startsWith('Key') ? code.slice(3).toLowerCase() : key;
}
