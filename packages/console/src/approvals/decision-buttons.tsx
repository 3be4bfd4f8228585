import { Button, Group, Text } from '@mantine/core';
import { useState } from 'react';
import type { OpenChange } from '../api/types.js';
import { ReasonDialog } from '../features/reason-dialog.js';
import { CheckIcon, CloseIcon } from '../shell/icons.js';
import { useScope } from '../shell/scope.js';
import { useI18n } from '../i18n/i18n.js';
import type { Decision } from './decisions.js';
import { useDecide } from './use-decide.js';

interface DecisionButtonsProps {
  readonly change: OpenChange;
  readonly decision: Decision | undefined;
}

/** The buttons that the user may use. A decision of another user disables them. */
export function DecisionButtons({ change, decision }: DecisionButtonsProps) {
  const { t } = useI18n();
  const { me } = useScope();
  const { busy, decide } = useDecide(change);
  const [dialog, setDialog] = useState<'approve' | 'reject' | null>(null);
  if (!me.writes) return null;
  const needsPassword = me.decisions === 'password';
  const mayDecide = change.may_decide && me.decisions !== 'elsewhere';
  const disabled = decision !== undefined || busy !== null;
  const decideInDialog = async (step: 'approve' | 'reject', body: object): Promise<void> => {
    if (await decide(step, body)) setDialog(null);
  };
  return (
    <Group gap="xs">
      {mayDecide && (
        <>
          <Button
            color="teal.9"
            leftSection={<CheckIcon size={16} />}
            disabled={disabled && busy !== 'approve'}
            loading={busy === 'approve'}
            onClick={() => {
              if (needsPassword) setDialog('approve');
              else void decide('approve');
            }}
          >
            {t.approvals.approve}
          </Button>
          <Button
            variant="default"
            leftSection={<CloseIcon size={16} />}
            disabled={disabled}
            onClick={() => setDialog('reject')}
          >
            {t.approvals.reject}
          </Button>
        </>
      )}
      {change.may_cancel && (
        <Button variant="default" disabled={disabled} onClick={() => void decide('cancel')}>
          {t.approvals.cancel}
        </Button>
      )}
      {!mayDecide && decision === undefined && <WhyNot change={change} />}
      {dialog !== null && decision === undefined && (
        <DecisionDialog
          step={dialog}
          requestedBy={change.requested_by}
          needsPassword={needsPassword}
          busy={busy === dialog}
          onClose={() => setDialog(null)}
          onSubmit={(body) => void decideInDialog(dialog, body)}
        />
      )}
    </Group>
  );
}

/** Why the user cannot decide. */
function WhyNot({ change }: { readonly change: OpenChange }) {
  const { approvals } = useI18n().t;
  return (
    <Text size="sm" c="dimmed">
      {change.own ? approvals.ownRequest : change.may_decide ? approvals.elsewhere : approvals.managersOnly}
    </Text>
  );
}

interface DecisionDialogProps {
  readonly step: 'approve' | 'reject';
  readonly requestedBy: string;
  readonly needsPassword: boolean;
  readonly busy: boolean;
  readonly onClose: () => void;
  readonly onSubmit: (body: object) => void;
}

/** Asks for the reason of a rejection, for the user's password, or for both. */
function DecisionDialog({ step, requestedBy, needsPassword, onSubmit, ...rest }: DecisionDialogProps) {
  const { approvals } = useI18n().t;
  return step === 'approve' ? (
    <ReasonDialog
      {...rest}
      title={approvals.approveTitle}
      explanation={approvals.passwordHint}
      submitLabel={approvals.approve}
      submitColor="teal.9"
      withReason={false}
      withPassword
      onSubmit={({ password }) => onSubmit({ password })}
    />
  ) : (
    <ReasonDialog
      {...rest}
      title={approvals.rejectTitle}
      explanation={approvals.rejectHint(requestedBy)}
      submitLabel={approvals.reject}
      submitColor="red"
      withPassword={needsPassword}
      onSubmit={({ reason, password }) => onSubmit(needsPassword ? { reason, password } : { reason })}
    />
  );
}
