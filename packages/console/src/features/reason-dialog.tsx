import { Button, Group, Stack, Text, Textarea } from '@mantine/core';
import { type SubmitEvent, useState } from 'react';
import { Dialog } from '../shell/dialog.js';
import { useTexts } from '../texts/texts.js';

interface ReasonDialogProps {
  readonly title: string;
  /** Why a reason is asked for. */
  readonly explanation: string;
  readonly submitLabel: string;
  /** Default: the theme's. */
  readonly submitColor?: string;
  readonly busy: boolean;
  readonly onClose: () => void;
  readonly onSubmit: (reason: string) => void;
}

const longestReason = 500;

/** Asks why, before something is sent. */
export function ReasonDialog(props: ReasonDialogProps) {
  const { title, explanation, submitLabel, submitColor = 'indigo', busy, onClose, onSubmit } = props;
  const { t } = useTexts();
  const [reason, setReason] = useState('');
  const submit = (event: SubmitEvent): void => {
    event.preventDefault();
    if (reason.trim() !== '') onSubmit(reason.trim());
  };
  return (
    <Dialog title={title} onClose={onClose}>
      <form onSubmit={submit}>
        <Stack>
          <Text size="sm">{explanation}</Text>
          <Textarea
            label={t.approvals.reason}
            value={reason}
            onChange={(event) => setReason(event.currentTarget.value)}
            maxLength={longestReason}
            autosize
            minRows={3}
            required
            data-autofocus
          />
          <Group justify="flex-end">
            <Button variant="default" onClick={onClose}>
              {t.shell.cancel}
            </Button>
            <Button type="submit" loading={busy} disabled={reason.trim() === ''} color={submitColor}>
              {submitLabel}
            </Button>
          </Group>
        </Stack>
      </form>
    </Dialog>
  );
}
