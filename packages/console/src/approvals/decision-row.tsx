import { Badge, Button, Group, Text } from '@mantine/core';
import { useEffect, useRef, useState } from 'react';
import { actionColors } from '../api/actions.js';
import type { OpenChange } from '../api/types.js';
import { ReasonDialog, type ReasonInput } from '../features/reason-dialog.js';
import { CheckIcon, CloseIcon } from '../shell/icons.js';
import { useFreshProjects } from '../api/queries.js';
import { RelativeTime } from '../shell/relative-time.js';
import { useScope } from '../shell/scope.js';
import { useI18n } from '../i18n/i18n.js';
import { visible } from '../i18n/visible.js';
import { EntityDiffs } from '../feature/diff-list.js';
import { decisionText, flagOf, needsConfirmation } from './requests.js';
import { type Step, useDecide } from './use-decide.js';
import type { useShownChange } from './use-shown-change.js';

/**
 * The last row of a card: the buttons that the user may use, the decision, or that the request was edited. Its height
 * stays, so that the next card does not move.
 */
export function DecisionRow({ shown, isOutdated, showNow, moved }: ReturnType<typeof useShownChange>) {
  const { t } = useI18n();
  const { me, projects } = useScope();
  const { busy, decide } = useDecide(shown, moved);
  const [dialog, setDialog] = useState<'approve' | 'reject' | null>(null);
  const [isChecking, setChecking] = useState(false);
  const loadProjects = useFreshProjects();
  const isOpen = shown.status === 'pending';
  const { row, hasDecided } = useFocusAfterDecision(isOpen);
  // A request that is reopened is another one to decide on.
  if (!isOpen && dialog !== null) setDialog(null);
  const send = async (step: Step, body?: object): Promise<boolean> => {
    hasDecided.current = true;
    const outcome = await decide(step, body);
    if (outcome !== 'retry') setDialog(null);
    return outcome === 'done';
  };
  const approve = async (): Promise<void> => {
    if (me.decisions === 'password' || needsConfirmation(shown, projects)) {
      setDialog('approve');
      return;
    }
    // Another environment may have been guarded meanwhile: no event tells this page.
    setChecking(true);
    const fresh = await loadProjects().catch(() => []);
    // The user has left the page.
    if (row.current === null) return;
    setChecking(false);
    if (needsConfirmation(shown, fresh)) setDialog('approve');
    else await send('approve');
  };
  return (
    <div ref={row} className="fc-decision" tabIndex={-1}>
      {!isOpen && <Decided change={shown} />}
      {isOutdated && (
        <Group gap="xs" role="status">
          <Text size="sm">{t.approvals.outdated}</Text>
          <Button variant="light" size="compact-sm" onClick={showNow}>
            {t.approvals.showNow}
          </Button>
        </Group>
      )}
      {isOpen && !isOutdated && (
        <Buttons
          change={shown}
          busy={isChecking ? 'approve' : busy}
          onApprove={() => void approve()}
          onReject={() => setDialog('reject')}
          onCancel={() => void send('cancel')}
        />
      )}
      {isOpen && dialog !== null && (
        <DecisionDialog
          step={dialog}
          change={shown}
          isOutdated={isOutdated}
          busy={busy === dialog}
          onClose={() => setDialog(null)}
          onSubmit={async (body) => await send(dialog, body)}
        />
      )}
    </div>
  );
}

/**
 * The user's decision removes the button, or the dialog, that had the focus. `row` gets it then, so that the keyboard
 * continues at this request.
 */
function useFocusAfterDecision(isOpen: boolean) {
  const row = useRef<HTMLDivElement>(null);
  const hasDecided = useRef(false);
  useEffect(() => {
    if (isOpen || !hasDecided.current) return;
    hasDecided.current = false;
    // After a closed dialog has returned the focus.
    setTimeout(() => {
      const { activeElement, body } = document;
      const isLost = activeElement === body || activeElement?.id === 'content';
      if (isLost) row.current?.focus({ preventScroll: true });
    });
  }, [isOpen]);
  return { row, hasDecided };
}

interface ButtonsProps {
  readonly change: OpenChange;
  readonly busy: Step | null;
  readonly onApprove: () => void;
  readonly onReject: () => void;
  readonly onCancel: () => void;
}

function Buttons({ change, busy, onApprove, onReject, onCancel }: ButtonsProps) {
  const { t } = useI18n();
  const { writes, decisions } = useScope().me;
  const mayDecide = writes && change.may_decide && decisions !== 'elsewhere';
  return (
    <Group gap="xs">
      {mayDecide && (
        <>
          <Button
            color="teal.9"
            leftSection={<CheckIcon size={16} />}
            disabled={busy !== null && busy !== 'approve'}
            loading={busy === 'approve'}
            onClick={onApprove}
          >
            {t.approvals.approve}
          </Button>
          <Button
            variant="default"
            leftSection={<CloseIcon size={16} />}
            disabled={busy !== null}
            onClick={onReject}
          >
            {t.approvals.reject}
          </Button>
        </>
      )}
      {writes && change.may_cancel && (
        <Button variant="default" disabled={busy !== null} onClick={onCancel}>
          {t.approvals.cancel}
        </Button>
      )}
      {!mayDecide && (
        <Text size="sm" c="dimmed">
          {!writes
            ? t.errors.writes_off
            : change.own
              ? t.approvals.ownRequest
              : change.may_decide
                ? t.errors.decide_elsewhere
                : t.approvals.managersOnly}
        </Text>
      )}
    </Group>
  );
}

/** The decision, with the reason of a rejection. */
function Decided({ change }: { readonly change: OpenChange }) {
  const { t } = useI18n();
  const { status, decided_at: at, decided_by: by, decision_reason: reason } = change;
  return (
    <Group gap="xs" wrap="nowrap" role="status" style={{ whiteSpace: 'nowrap' }}>
      <Badge
        color={actionColors.get(status) ?? 'gray'}
        variant="light"
        tt="none"
        size="lg"
        className="fc-shrink"
      >
        {decisionText(t, status, by)}
      </Badge>
      <Text span size="sm" c="dimmed" visibleFrom="sm">
        {at !== null && <RelativeTime at={at} />}
      </Text>
      {reason !== null && (
        <Text size="sm" truncate title={visible(reason)}>
          {visible(reason)}
        </Text>
      )}
    </Group>
  );
}

interface DecisionDialogProps {
  readonly step: 'approve' | 'reject';
  readonly change: OpenChange;
  /** The change is in another state meanwhile: it has to be looked at before a decision. */
  readonly isOutdated: boolean;
  readonly busy: boolean;
  readonly onClose: () => void;
  readonly onSubmit: (body: object) => Promise<boolean>;
}

/** Names what is approved and asks for the user's password, or asks for the reason of a rejection. */
function DecisionDialog({ step, change, isOutdated, onSubmit, ...rest }: DecisionDialogProps) {
  const { approvals } = useI18n().t;
  const withPassword = useScope().me.decisions === 'password';
  const name = flagOf(change)?.feature_name ?? null;
  const bodyOf = ({ reason, password }: ReasonInput): object => ({
    ...(step === 'reject' && { reason }),
    ...(withPassword && { password }),
  });
  const isApproval = step === 'approve';
  return (
    <ReasonDialog
      {...rest}
      title={isApproval ? approvals.approveTitle : approvals.rejectTitle}
      explanation={
        isApproval
          ? approvals.confirm(name ?? approvals.deletedFeature, change.project, change.environment_name)
          : approvals.rejectHint(change.requested_by)
      }
      submitLabel={isApproval ? approvals.approve : approvals.reject}
      submitColor={isApproval ? 'teal.9' : 'red'}
      withReason={!isApproval}
      withPassword={withPassword}
      draft={`reject ${change.id}`}
      blocked={isOutdated ? approvals.outdated : null}
      onSubmit={async (input) => await onSubmit(bodyOf(input))}
    >
      {isApproval && <EntityDiffs shown={change} />}
    </ReasonDialog>
  );
}
