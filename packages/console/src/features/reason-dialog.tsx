import { Button, Group, PasswordInput, Stack, Text, Textarea } from '@mantine/core';
import { type SubmitEvent, useState } from 'react';
import { Dialog } from '../shell/dialog.js';
import { useI18n } from '../i18n/i18n.js';

/** What the person has given; empty where it was not asked for. */
interface Given {
  readonly reason: string;
  readonly password: string;
}

interface ReasonDialogProps {
  readonly title: string;
  /** Why it is asked for. */
  readonly explanation: string;
  readonly submitLabel: string;
  /** Default: the theme's. */
  readonly submitColor?: string;
  /** Whether a reason is asked for. Default true. */
  readonly withReason?: boolean;
  /** Whether the person's password is asked for. Default false. */
  readonly withPassword?: boolean;
  readonly busy: boolean;
  readonly onClose: () => void;
  readonly onSubmit: (given: Given) => void;
}

const longestReason = 500;

/** Asks why, or for the password, before something is sent. */
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
              maxLength={longestReason}
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
