import { useConnectionStatus } from '@flagcast/client/react';
import { useLive } from '../api/live.js';
import { useSignInMode } from '../api/queries.js';
import type { Messages } from '../i18n/en.js';

/** What the server promises. */
interface Guarantee {
  readonly guarantee: string;
  readonly reason: string | null;
  /** With `overlap`: for how many seconds a transaction may be open; null where the server does not say. */
  readonly overlapSeconds: number | null;
}

/** As the line told it, else as the server tells whoever asks; null while nobody has. */
export function useGuarantee(): Guarantee | null {
  const { connectionInfo } = useLive();
  const { data: mode } = useSignInMode();
  // Who has come back may have come to another server.
  useConnectionStatus();
  const { hello } = connectionInfo();
  const guarantee = hello?.guarantee ?? mode?.guarantee ?? null;
  const overlapMs = hello === null ? mode?.overlap_ms : hello.overlapMs;
  if (guarantee === null) return null;
  return {
    guarantee,
    reason: hello?.guaranteeReason ?? mode?.guarantee_reason ?? null,
    overlapSeconds: typeof overlapMs === 'number' ? Math.round(overlapMs / 1_000) : null,
  };
}

/** What it means, in a sentence or two. */
export function describeGuarantee(promised: Guarantee | null, { freshness }: Messages): string {
  if (promised === null) return freshness.unknown;
  const { guarantee, reason, overlapSeconds } = promised;
  const reasons: Readonly<Record<string, string>> = freshness.reasons;
  const meaning =
    { overlap: freshness.overlap(overlapSeconds), partial: freshness.partial }[guarantee] ?? freshness.exact;
  const because = reasons[reason ?? ''];
  return because === undefined ? meaning : `${meaning} ${because}`;
}
