import { Alert, Button, Group } from '@mantine/core';
import { useEffect } from 'react';
import { useLive } from '../api/live.js';
import { useI18n } from '../i18n/i18n.js';
import { useSession } from '../sign-in/app-services.js';
import { describeCode } from '../api/api.js';
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
  if (isExpired || !stale) return null;
  const isClosed = status.state === 'closed';
  return (
    <Alert
      {...(isClosed ? { color: 'red', role: 'alert' } : { color: 'orange', role: 'status' })}
      radius={0}
      className="fc-banner"
    >
      <Group justify="space-between">
        {isClosed
          ? t.freshness.closedBanner(describeCode(status.error?.code ?? '', t.errors))
          : t.freshness.staleBanner(reason ?? '', asOf ?? '')}
        {isClosed ? (
          <Button size="xs" color="red" onClick={() => location.reload()}>
            {t.shell.tryAgain}
          </Button>
        ) : (
          status.state === 'stale' &&
          status.reason === 'disconnected' && (
            <Button size="xs" variant="default" onClick={client.reconnect}>
              {t.freshness.reconnect}
            </Button>
          )
        )}
      </Group>
    </Alert>
  );
}
