import { Button, Group, PasswordInput, Stack, Text, Textarea } from '@mantine/core';
import { type SubmitEvent, useState } from 'react';
import { Dialog } from '../shell/dialog.js';
import { useI18n } from '../i18n/i18n.js';

/** The input of the user; empty if not requested. */
interface ReasonInput {
  readonly reason: string;
  readonly password: string;
}

interface ReasonDialogProps {
  readonly title: string;
  readonly explanation: string;
  readonly submitLabel: string;
  /** Default `indigo`. */
  readonly submitColor?: string;
  /** Whether to require a reason. Default true. */
  readonly withReason?: boolean;
  /** Whether to require the user's password. Default false. */
  readonly withPassword?: boolean;
  readonly busy: boolean;
  readonly onClose: () => void;
  readonly onSubmit: (given: ReasonInput) => void;
}

const maxReasonLength = 500;

/** Requires a reason, the password, or both, before a request is sent. */
export function ReasonDialog(props: ReasonDialogProps) {
  const { title, explanation, submitLabel, submitColor = 'indigo', busy, onClose, onSubmit } = props;
  const { withReason = true, withPassword = false } = props;
  const { t } = useI18n();
  const [reason, setReason] = useState('');
  const [password, setPassword] = useState('');
  const ready = (!withReason || reason.trim() !== '') && (!withPassword || password !== '');
  const submit = (event: SubmitEvent): void => {
    event.preventDefault();
    if (ready) onSubmit({ reason: reason.trim(), password });
  };
  return (
    <Dialog title={title} onClose={onClose}>
      <form onSubmit={submit}>
        <Stack>
          <Text size="sm">{explanation}</Text>
          {withReason && (
            <Textarea
              label={t.approvals.reason}
              value={reason}
              onChange={(event) => setReason(event.currentTarget.value)}
              maxLength={maxReasonLength}
              autosize
              minRows={3}
              required
              data-autofocus
            />
          )}
          {withPassword && (
            <PasswordInput
              label={t.signIn.password}
              value={password}
              onChange={(event) => setPassword(event.currentTarget.value)}
              autoComplete="current-password"
              visibilityToggleButtonProps={{ 'aria-label': t.signIn.showPassword }}
              required
              withAsterisk={false}
              {...(withReason ? {} : { 'data-autofocus': true })}
            />
          )}
          <Group justify="flex-end">
            <Button variant="default" onClick={onClose}>
              {t.shell.cancel}
            </Button>
            <Button type="submit" loading={busy} disabled={!ready} color={submitColor}>
              {submitLabel}
            </Button>
          </Group>
        </Stack>
      </form>
    </Dialog>
  );
}
