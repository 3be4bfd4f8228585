import { useConnectionStatus } from '@flagcast/client/react';
import { useLive } from '../api/live.js';
import { useSignInMode } from '../api/queries.js';
import type { Messages } from '../i18n/en.js';

/** The server's delivery guarantee. */
interface Guarantee {
  readonly guarantee: string;
  readonly reason: string | null;
  /** With `overlap`: the longest transaction whose changes are not missed, in seconds; null if unknown. */
  readonly overlapSeconds: number | null;
}

/** The guarantee from `hello`, else from `GET /api/auth/mode`; null while unknown. */
export function useGuarantee(): Guarantee | null {
  const { connectionInfo } = useLive();
  const { data: mode } = useSignInMode();
  // A reconnect can lead to another server.
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

/** Explains the guarantee and its reason. */
export function describeGuarantee(value: Guarantee | null, { freshness }: Messages): string {
  if (value === null) return freshness.unknown;
  const { guarantee, reason, overlapSeconds } = value;
  const reasons: Readonly<Record<string, string>> = freshness.reasons;
  const meaning =
    { overlap: freshness.overlap(overlapSeconds), partial: freshness.partial }[guarantee] ?? freshness.exact;
  const because = reasons[reason ?? ''];
  return because === undefined ? meaning : `${meaning} ${because}`;
}
