import { Alert, PasswordInput, Text, Textarea } from '@mantine/core';
import { type ReactNode, useState } from 'react';
import { FormDialog, type FormDialogProps } from '../shell/dialog.js';
import { useI18n } from '../i18n/i18n.js';
import { useReason } from './use-reason.js';

/** The input of the user; empty if not requested. */
export interface ReasonInput {
  readonly reason: string;
  readonly password: string;
}

interface ReasonDialogProps extends Omit<FormDialogProps, 'focus' | 'ready' | 'onSubmit' | 'children'> {
  readonly explanation: string;
  /** Whether to require a reason. Default true. */
  readonly withReason?: boolean;
  /** Whether to require the user's password. Default false. */
  readonly withPassword?: boolean;
  /** The name of the draft of the reason. */
  readonly draft: string;
  /** Why it cannot be sent any more; null if it can. */
  readonly blocked: string | null;
  /** Resolves with whether it was accepted: the draft is no longer needed. */
  readonly onSubmit: (given: ReasonInput) => Promise<boolean>;
  /** Shown above the inputs. */
  readonly children?: ReactNode;
}

/** Requires a reason, the password, or both, before a request is sent. */
export function ReasonDialog(props: ReasonDialogProps) {
  const { explanation, withReason = true, withPassword = false, draft, blocked, onSubmit, ...dialog } = props;
  const { t } = useI18n();
  const { reason, ready: hasReason, forget, input } = useReason(draft);
  const [password, setPassword] = useState('');
  const submit = async (): Promise<void> => {
    if (await onSubmit({ reason, password })) forget();
  };
  return (
    <FormDialog
      {...dialog}
      ready={blocked === null && (!withReason || hasReason) && (!withPassword || password !== '')}
      {...(!withReason && !withPassword && { focus: 'submit' })}
      onSubmit={() => void submit()}
    >
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
          data-autofocus={!withReason || undefined}
        />
      )}
    </FormDialog>
  );
}
