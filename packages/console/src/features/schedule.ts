import type { FeatureState, ScheduledChange, ScheduleState } from '@flagcast/client';
import { useNowMs } from '../shell/relative-time.js';

/** What the schedules of a flag do at a time. */
export interface Scheduled {
  readonly enabled: boolean;
  readonly next: ScheduledChange | null;
}

/** Null: not known at that time, because more changes have followed than the server has sent. */
export function scheduledAt(
  { enabled, next_changes: changes, known_until: knownUntil }: ScheduleState,
  nowMs: number,
): Scheduled | null {
  if (knownUntil !== null && Date.parse(knownUntil) <= nowMs) return null;
  const isPast = ({ at }: ScheduledChange): boolean => Date.parse(at) <= nowMs;
  return {
    enabled: changes.findLast(isPast)?.enabled ?? enabled,
    next: changes.find((change) => !isPast(change)) ?? null,
  };
}

/** As `scheduledAt`, now: it changes in the second of each change. Undefined without schedules. */
export function useScheduled({ schedule_state: state }: FeatureState): Scheduled | null | undefined {
  const nowMs = useNowMs(state === undefined ? Infinity : 1_000);
  return state && scheduledAt(state, nowMs);
}
