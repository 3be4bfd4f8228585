import { useLocation } from 'react-router';
import { useOpenChanges } from '../approvals/open-changes.js';
import { useI18n } from '../i18n/i18n.js';
import { ActivityIcon, ApprovalIcon, FlagIcon, LockIcon } from './icons.js';
import { scopePath, useRights, useScope } from './scope.js';

/** The pages of the environment. */
export function usePages() {
  const { t } = useI18n();
  const { project, environment } = useScope();
  const { pathname } = useLocation();
  const needsReview = useOpenChanges().open.filter(({ may_decide: mayDecide }) => mayDecide).length;
  const { guard } = useRights();
  const page = (name: string, label: string, Icon: typeof FlagIcon, count = 0) => {
    const to = scopePath(project.id, environment.key, name);
    return { to, label, Icon, count, active: pathname.startsWith(to) };
  };
  return [
    page('features', t.shell.features, FlagIcon),
    page('approvals', t.shell.approvals, ApprovalIcon, needsReview),
    page('activity', t.shell.activity, ActivityIcon),
    ...(guard ? [page('guards', t.shell.guards, LockIcon)] : []),
  ];
}
