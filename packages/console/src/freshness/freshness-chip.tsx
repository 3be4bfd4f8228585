import { UnstyledButton } from '@mantine/core';
import { useState } from 'react';
import { lazyPart } from '../shell/lazy-part.js';
import { lazyRoutes } from '../shell/lazy-routes.js';
import { useI18n } from '../i18n/i18n.js';
import { useGuarantee, useStatus } from './status.js';

const FreshnessDrawer = lazyPart(lazyRoutes.freshnessDrawer);

/** The state of the connection, on every page. A click opens the details. */
export function FreshnessChip() {
  const { t } = useI18n();
  const { status, label, reason } = useStatus();
  const [opened, setOpened] = useState(false);
  const note = useGuarantee()?.note ?? null;
  return (
    <>
      <UnstyledButton
        className="fc-freshness"
        data-state={status.state}
        title={reason ?? undefined}
        aria-label={t.freshness.chip(note === null ? label : `${label} ${note}`)}
        onClick={() => setOpened(true)}
      >
        <span className="fc-dot" aria-hidden="true" />
        <span className="fc-freshness-label">{label}</span>
        {note !== null && <span className="fc-freshness-note"> {note}</span>}
      </UnstyledButton>
      {opened && <FreshnessDrawer onClose={() => setOpened(false)} />}
    </>
  );
}
