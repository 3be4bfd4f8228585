import { Alert, Button, Group } from '@mantine/core';
import { useEffect } from 'react';
import { useLive } from '../api/live.js';
import { useI18n } from '../i18n/i18n.js';
import { useSession } from '../sign-in/app-services.js';
import { describeCode } from '../shell/notifications.js';
import { isOutOfDate, useStatus } from './status.js';

/** Shows why the page is stale, and greys it out. */
export function StaleBanner() {
  const { t } = useI18n();
  const { client } = useLive();
  const { status, reason, asOf } = useStatus();
  const stale = isOutOfDate(status);
  // Then the connection waits for the sign-in, whose dialog says so.
  const isExpired = useSession().state === 'expired';
  useEffect(() => {
    document.documentElement.toggleAttribute('data-stale', stale);
    return () => document.documentElement.removeAttribute('data-stale');
  }, [stale]);
  if (isExpired) return null;
  if (status.state === 'stale' && asOf !== null) {
    return (
      <Alert color="orange" radius={0} role="status" className="fc-banner">
        <Group justify="space-between">
          <span>{t.freshness.staleBanner(reason, asOf)}</span>
          {status.reason === 'disconnected' && (
            <Button size="xs" variant="default" onClick={client.reconnect}>
              {t.freshness.reconnect}
            </Button>
          )}
        </Group>
      </Alert>
    );
  }
  if (status.state === 'closed') {
    return (
      <Alert color="red" radius={0} role="alert" className="fc-banner">
        <Group justify="space-between">
          <span>{t.freshness.closedBanner(describeCode(status.error?.code ?? '', t.errors))}</span>
          <Button size="xs" color="red" onClick={() => location.reload()}>
            {t.shell.tryAgain}
          </Button>
        </Group>
      </Alert>
    );
  }
  return null;
}
