import type { ChannelStatus } from '@flagcast/client';
import { useConnectionStatus } from '@flagcast/client/react';
import { useLive } from '../api/live.js';
import { toServerMs } from '../api/server-clock.js';
import { useI18n } from '../i18n/i18n.js';

/** Whether the page may not show the newest state. */
export function isOutOfDate({ state }: ChannelStatus): boolean {
  return state === 'stale' || state === 'closed';
}

/** The state of the connection in words. */
export function useStatus() {
  const { t, format } = useI18n();
  const { connectionInfo } = useLive();
  const status = useConnectionStatus();
  if (status.state !== 'stale')
    return { status, label: t.freshness.states[status.state], asOf: null, reason: null };
  // By the server's clock; the client's time is limited by that of the browser.
  const asOf = format.time(connectionInfo().asOfMs ?? toServerMs(status.sinceMs));
  const reason = t.freshness.staleReasons[status.reason];
  return { status, label: t.freshness.staleSince(asOf), asOf, reason };
}

/** The delivery guarantee of the server, and a note for the chip if it is not exact; null before its `hello`. */
export function useGuarantee() {
  const { t } = useI18n();
  const { client } = useLive();
  // A reconnect can lead to another server.
  useConnectionStatus();
  const hello = client.getHello();
  if (hello === null) return null;
  const { freshness } = t;
  const seconds = hello.overlap_ms === null ? null : Math.round(hello.overlap_ms / 1_000);
  const [meaning, note] =
    hello.guarantee === 'overlap'
      ? [freshness.overlap(seconds), freshness.overlapNote(seconds)]
      : hello.guarantee === 'partial'
        ? [freshness.partial, freshness.partialNote]
        : [freshness.exact, null];
  const reasons: Readonly<Record<string, string | undefined>> = freshness.reasons;
  return { text: `${meaning} ${reasons[hello.guarantee_reason] ?? ''}`.trim(), note };
}
