import './later-styles.js';
import { Modal } from '@mantine/core';
import { useI18n } from '../i18n/i18n.js';
import type { DialogProps } from './dialog.js';
import { useReturnFocus } from './use-return-focus.js';

export default function DialogModal({ title, onClose, children }: DialogProps) {
  const { t } = useI18n();
  useReturnFocus();
  return (
    <Modal opened onClose={onClose} title={title} closeButtonProps={{ 'aria-label': t.shell.close }} centered>
      {children}
    </Modal>
  );
}
