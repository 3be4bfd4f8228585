import { Badge, UnstyledButton } from '@mantine/core';
import { BellIcon } from '../shell/icons.js';
import { lazyPart } from '../shell/lazy-part.js';
import { lazyRoutes } from '../shell/lazy-routes.js';
import { PopupButton } from '../shell/popup-button.js';
import { useI18n } from '../i18n/i18n.js';
import { useBrowserNotifications } from './use-browser-notifications.js';
import { useConcerns } from './use-concerns.js';

const ConcernsPopup = lazyPart(lazyRoutes.concernsPopup);

/** Counts what concerns the user, and opens its list. */
export function Bell() {
  const { t } = useI18n();
  const { concerns, unseen } = useConcerns();
  useBrowserNotifications(concerns);
  return (
    <PopupButton popup="dialog" render={(close) => <ConcernsPopup onClose={close} />}>
      {(button) => (
        <UnstyledButton className="fc-bell" aria-label={t.approvals.bell(unseen.length)} {...button}>
          <BellIcon size={20} />
          {unseen.length > 0 && (
            <Badge size="xs" color="red.8" circle={unseen.length < 10}>
              {unseen.length}
            </Badge>
          )}
        </UnstyledButton>
      )}
    </PopupButton>
  );
}
