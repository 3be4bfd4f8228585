import { createSafeContext } from '@mantine/core';
import { type ReactNode, useEffect, useMemo, useState } from 'react';
import { useNavigate } from 'react-router';
import { lazyPart } from './lazy-part.js';
import { lazyRoutes } from './lazy-routes.js';
import { scopePath, useScope } from './scope.js';
import { createShortcutReader, isPaletteKey } from './shortcuts.js';
import { usePages } from './use-pages.js';

const Palette = lazyPart(lazyRoutes.palette);
const Help = lazyPart(lazyRoutes.shortcutsHelp);

interface Shortcuts {
  readonly openHelp: () => void;
  readonly openPalette: () => void;
}

/** What the shortcuts open. */
const [ShortcutsContext, useShortcuts] = createSafeContext<Shortcuts>('useShortcuts needs a Keyboard');
export { useShortcuts };

/**
 * Keyboard shortcuts of all pages: Ctrl+K the palette, `/` search, `g` and the letter of a page, `p` pause, `?` help.
 */
export function Keyboard({ children }: { readonly children: ReactNode }) {
  const { project, environment } = useScope();
  const navigate = useNavigate();
  const [opened, setOpened] = useState<'help' | 'palette' | null>(null);
  useEffect(() => {
    const read = createShortcutReader();
    const listener = (event: KeyboardEvent): void => {
      // A dialog has its own keys.
      if (document.querySelector('[role="dialog"]') !== null) return;
      if (isPaletteKey(event)) {
        // Browsers search with it.
        event.preventDefault();
        setOpened('palette');
      }
      if (isTyping(event.target)) return;
      const shortcut = read(event);
      if (shortcut === null) return;
      if (shortcut.action === 'go') void navigate(scopePath(project.id, environment.key, shortcut.page));
      else if (shortcut.action === 'search') {
        document.querySelector<HTMLElement>('[data-search]')?.focus();
        event.preventDefault();
      } else if (shortcut.action === 'pause') document.querySelector<HTMLElement>('[data-pause]')?.click();
      else setOpened('help');
    };
    addEventListener('keydown', listener);
    return () => removeEventListener('keydown', listener);
  }, [navigate, project.id, environment.key]);
  const shortcuts = useMemo(
    () => ({ openHelp: () => setOpened('help'), openPalette: () => setOpened('palette') }),
    [],
  );
  const pages = usePages();
  const close = (): void => setOpened(null);
  return (
    <ShortcutsContext value={shortcuts}>
      {children}
      {opened === 'palette' && <Palette pages={pages} onClose={close} />}
      {opened === 'help' && <Help onClose={close} />}
    </ShortcutsContext>
  );
}

function isTyping(target: EventTarget | null): boolean {
  return (
    target instanceof HTMLElement &&
    (target.isContentEditable ||
      target instanceof HTMLTextAreaElement ||
      target instanceof HTMLSelectElement ||
      (target instanceof HTMLInputElement && !['checkbox', 'radio'].includes(target.type)))
  );
}
