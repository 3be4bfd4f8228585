import { Modal } from '@mantine/core';
import type { ReactNode } from 'react';
import { useI18n } from '../i18n/i18n.js';
import { useReturnFocus } from './use-return-focus.js';

interface DialogProps {
  readonly title: string;
  readonly onClose: () => void;
  readonly children: ReactNode;
}

/** A centered dialog, open while it is mounted. */
export function Dialog({ title, onClose, children }: DialogProps) {
  const { t } = useI18n();
  useReturnFocus();
  return (
    <Modal opened onClose={onClose} title={title} closeButtonProps={{ 'aria-label': t.shell.close }} centered>
      {children}
    </Modal>
  );
}
