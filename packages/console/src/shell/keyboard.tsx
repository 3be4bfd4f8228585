import { Kbd, Table } from '@mantine/core';
import { createContext, type ReactNode, use, useEffect, useMemo, useState } from 'react';
import { useNavigate } from 'react-router';
import { Dialog } from './dialog.js';
import { useI18n } from '../i18n/i18n.js';
import { scopePath, useScope } from './scope.js';
import { createShortcutReader } from './shortcuts.js';

interface Help {
  readonly openHelp: () => void;
}

const HelpContext = createContext<Help>({ openHelp: () => undefined });

export function useHelp(): Help {
  return use(HelpContext);
}

/** Keyboard shortcuts of all pages: `/` search, `g` and the letter of a page, `p` pause, `?` help. */
export function Keyboard({ children }: { readonly children: ReactNode }) {
  const { t } = useI18n();
  const { project, environment } = useScope();
  const navigate = useNavigate();
  const [helpOpen, setHelpOpen] = useState(false);
  useEffect(() => {
    const read = createShortcutReader();
    const listener = (event: KeyboardEvent): void => {
      if (isTyping(event.target)) return;
      // A dialog has its own keys.
      if (document.querySelector('[role="dialog"]') !== null) return;
      const shortcut = read(event);
      if (shortcut === null) return;
      if (shortcut.action === 'go') void navigate(scopePath(project.id, environment.key, shortcut.page));
      else if (shortcut.action === 'search') {
        document.querySelector<HTMLElement>('[data-search]')?.focus();
        event.preventDefault();
      } else if (shortcut.action === 'pause') document.querySelector<HTMLElement>('[data-pause]')?.click();
      else setHelpOpen(true);
    };
    addEventListener('keydown', listener);
    return () => removeEventListener('keydown', listener);
  }, [navigate, project.id, environment.key]);
  const help = useMemo(() => ({ openHelp: () => setHelpOpen(true) }), []);
  const rows: [readonly string[], string][] = [
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
    <HelpContext value={help}>
      {children}
      {helpOpen && (
        <Dialog title={t.keyboard.title} onClose={() => setHelpOpen(false)}>
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
    </HelpContext>
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
