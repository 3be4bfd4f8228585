import { Alert, Button, Group, PasswordInput, Stack, Text, Textarea } from '@mantine/core';
import { type ReactNode, type SubmitEvent, useState } from 'react';
import { Dialog } from '../shell/dialog.js';
import { useI18n } from '../i18n/i18n.js';
import { useReason } from './use-reason.js';

/** The input of the user; empty if not requested. */
export interface ReasonInput {
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
  /** The name of the draft of the reason. */
  readonly draft: string;
  /** Why it cannot be sent any more; null if it can. */
  readonly blocked: string | null;
  readonly busy: boolean;
  readonly onClose: () => void;
  /** Resolves with whether it was accepted: the draft is no longer needed. */
  readonly onSubmit: (given: ReasonInput) => Promise<boolean>;
  /** Shown above the inputs. */
  readonly children?: ReactNode;
}

/** Requires a reason, the password, or both, before a request is sent. */
export function ReasonDialog(props: ReasonDialogProps) {
  const { title, explanation, submitLabel, submitColor = 'indigo', blocked, busy, onClose } = props;
  const { withReason = true, withPassword = false } = props;
  const { t } = useI18n();
  const { reason, ready: hasReason, forget, input } = useReason(props.draft);
  const [password, setPassword] = useState('');
  const ready = blocked === null && (!withReason || hasReason) && (!withPassword || password !== '');
  const submit = async (): Promise<void> => {
    if (await props.onSubmit({ reason, password })) forget();
  };
  return (
    <Dialog title={title} onClose={onClose}>
      <form
        onSubmit={(event: SubmitEvent) => {
          event.preventDefault();
          if (ready) void submit();
        }}
      >
        <Stack>
          {blocked !== null && (
            <Alert color="orange" role="alert">
              {blocked}
            </Alert>
          )}
          <Text size="sm">{explanation}</Text>
          {props.children}
          {withReason && <Textarea {...input} autosize minRows={3} data-autofocus />}
          {withPassword && (
            <PasswordInput
              label={t.signIn.password}
              description={t.approvals.passwordHint}
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
            <Button
              type="submit"
              loading={busy}
              disabled={!ready}
              color={submitColor}
              {...(withReason || withPassword ? {} : { 'data-autofocus': true })}
            >
              {submitLabel}
            </Button>
          </Group>
        </Stack>
      </form>
    </Dialog>
  );
}
