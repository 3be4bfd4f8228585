import '../shell/later-styles.js';
import type { Environment } from '../api/types.js';
import { useOpenChanges } from '../approvals/open-changes.js';
import { findRequest } from '../approvals/requests.js';
import { useScope } from '../shell/scope.js';
import { useI18n } from '../i18n/i18n.js';
import { ReasonDialog } from './reason-dialog.js';

interface RequestDialogProps {
  readonly featureId: string;
  readonly title: string;
  /** The environment whose guard applies; if it has none, the flag has a guard of its own. */
  readonly guarding: Environment;
  /** Why it cannot be requested now; null if it can. */
  readonly blocked: string | null;
  readonly busy: boolean;
  readonly onClose: () => void;
  /** Resolves with whether the server has accepted it. */
  readonly onSubmit: (reason: string) => Promise<boolean>;
}

/** Asks for the reason of a request for an approval. It says when another user has just requested one for the flag. */
export default function RequestDialog(props: RequestDialogProps) {
  const { featureId, guarding, blocked, onSubmit, ...rest } = props;
  const { approvals } = useI18n().t;
  const { environment } = useScope();
  const { open } = useOpenChanges();
  const other = findRequest(open, featureId);
  // The event of the own request can arrive before the response.
  const isBlocked = other !== undefined && !rest.busy;
  return (
    <ReasonDialog
      {...rest}
      explanation={approvals.reasonFor(guarding.guarded ? guarding.name : null)}
      submitLabel={approvals.request}
      draft={`request ${featureId} ${environment.id}`}
      blocked={isBlocked ? approvals.justRequested(other.requested_by) : blocked}
      onSubmit={async ({ reason }) => await onSubmit(reason)}
    />
  );
}
