import './later-styles.js';
import { Kbd, Table } from '@mantine/core';
import { useI18n } from '../i18n/i18n.js';
import { Dialog } from './dialog.js';
import { paletteKeys } from './shortcuts.js';

/** The keyboard shortcuts. */
export default function ShortcutsHelp({ onClose }: { readonly onClose: () => void }) {
  const { t } = useI18n();
  const rows: [readonly string[], string][] = [
    [paletteKeys, t.keyboard.palette],
    [['/'], t.keyboard.search],
    [['g', 'f'], t.shell.features],
    [['g', 'a'], t.shell.approvals],
    [['g', 'v'], t.shell.activity],
    [['↑', '↓'], t.keyboard.rows],
    [['p'], t.keyboard.pause],
    [['Esc'], t.keyboard.close],
    [['?'], t.keyboard.help],
  ];
  return (
    <Dialog title={t.keyboard.title} onClose={onClose}>
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
  );
}
