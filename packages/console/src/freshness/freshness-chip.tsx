import { UnstyledButton } from '@mantine/core';
import { useState } from 'react';
import type { ChannelStatus } from '@flagcast/client';
import { useConnectionStatus } from '@flagcast/client/react';
import { lazyPart } from '../shell/lazy-part.js';
import { lazyRoutes } from '../shell/lazy-routes.js';
import { type I18n, useI18n } from '../i18n/i18n.js';
import { useGuarantee } from './use-guarantee.js';

const FreshnessDrawer = lazyPart(lazyRoutes.freshnessDrawer);

/** The state of the connection, on every page. A click opens the details. */
export function FreshnessChip() {
  const texts = useI18n();
  const { t } = texts;
  const status = useConnectionStatus();
  const [opened, setOpened] = useState(false);
  const guarantee = useGuarantee();
  const label = describeStatus(status, texts);
  const notes: Readonly<Record<string, string>> = {
    overlap: t.freshness.overlapNote(guarantee?.overlapSeconds ?? null),
    partial: t.freshness.partialNote,
  };
  const note = notes[guarantee?.guarantee ?? ''] ?? null;
  return (
    <>
      <UnstyledButton
        className="fc-freshness"
        data-state={status.state}
        title={status.state === 'stale' ? t.freshness.staleReasons[status.reason] : undefined}
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

/** E.g. `Stale since 14:02`. */
export function describeStatus(status: ChannelStatus, { t, format }: I18n): string {
  switch (status.state) {
    case 'live':
      return t.freshness.live;
    case 'connecting':
      return t.freshness.connecting;
    case 'catching-up':
      return t.freshness.catchingUp;
    case 'stale':
      return t.freshness.staleSince(format.time(status.sinceMs));
    case 'closed':
      return t.freshness.closed;
  }
}
