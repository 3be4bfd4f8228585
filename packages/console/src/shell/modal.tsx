import './later-styles.js';
import { Button, Group, Modal, Stack } from '@mantine/core';
import type { SubmitEvent } from 'react';
import { useI18n } from '../i18n/i18n.js';
import type { DialogProps, FormDialogProps } from './dialog.js';
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

export function FormModal({ submitColor, focus, ready = true, busy = false, ...props }: FormDialogProps) {
  const { t } = useI18n();
  const { submitLabel, cancelLabel = t.shell.cancel, onSubmit, onClose } = props;
  return (
    <DialogModal title={props.title} onClose={onClose}>
      <form
        onSubmit={(event: SubmitEvent) => {
          event.preventDefault();
          if (ready) onSubmit();
        }}
      >
        <Stack>
          {props.children}
          <Group justify="flex-end">
            <Button variant="default" onClick={onClose} data-autofocus={focus === 'cancel' || undefined}>
              {cancelLabel}
            </Button>
            <Button
              type="submit"
              color={submitColor ?? 'indigo'}
              loading={busy}
              disabled={!ready}
              data-autofocus={focus === 'submit' || undefined}
            >
              {submitLabel}
            </Button>
          </Group>
        </Stack>
      </form>
    </DialogModal>
  );
}
