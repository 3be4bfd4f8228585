import { Kbd, Table } from '@mantine/core';
import { createContext, lazy, type ReactNode, Suspense, use, useEffect, useMemo, useState } from 'react';
import { useNavigate } from 'react-router';
import { Dialog } from './dialog.js';
import { useI18n } from '../i18n/i18n.js';
import { lazyRoutes } from './lazy-routes.js';
import { scopePath, useScope } from './scope.js';
import { createShortcutReader, isPaletteKey } from './shortcuts.js';

const Palette = lazy(lazyRoutes.palette);

interface Shortcuts {
  readonly openHelp: () => void;
  readonly openPalette: () => void;
}

const ShortcutsContext = createContext<Shortcuts>({
  openHelp: () => undefined,
  openPalette: () => undefined,
});

/** What the shortcuts open. */
export function useShortcuts(): Shortcuts {
  return use(ShortcutsContext);
}

/** The keys that open the palette. */
export const paletteKeys = [/Mac|iPhone|iPad/.test(navigator.userAgent) ? '⌘' : 'Ctrl', 'K'] as const;

/**
 * Keyboard shortcuts of all pages: Ctrl+K the palette, `/` search, `g` and the letter of a page, `p` pause, `?` help.
 */
export function Keyboard({ children }: { readonly children: ReactNode }) {
  const { t } = useI18n();
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
  const close = (): void => setOpened(null);
  const rows: [readonly string[], string][] = [
    [paletteKeys, t.keyboard.palette],
    [['/'], t.keyboard.search],
    [['g', 'f'], t.keyboard.features],
    [['g', 'a'], t.keyboard.approvals],
    [['g', 'v'], t.keyboard.activity],
    [['↑', '↓'], t.keyboard.rows],
    [['p'], t.keyboard.pause],
    [['Esc'], t.keyboard.close],
    [['?'], t.keyboard.help],
  ];
  return (
    <ShortcutsContext value={shortcuts}>
      {children}
      <Suspense>{opened === 'palette' && <Palette onClose={close} />}</Suspense>
      {opened === 'help' && (
        <Dialog title={t.keyboard.title} onClose={close}>
          <Table>
            <Table.Tbody>
              {rows.map(([keys, meaning]) => (
                <Table.Tr key={meaning}>
                  <Table.Td w={110}>
                    {keys.map((key) => (
                      <Kbd key={key} mr={4}>
                        {key}
                      </Kbd>
                    ))}
                  </Table.Td>
                  <Table.Td>{meaning}</Table.Td>
                </Table.Tr>
              ))}
            </Table.Tbody>
          </Table>
        </Dialog>
      )}
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
