import type { FeatureState, ScheduledChange, ScheduleState } from '@flagcast/client';
import { Text } from '@mantine/core';
import { useQuery } from '@tanstack/react-query';
import { useI18n } from '../i18n/i18n.js';
import { useNowMs } from '../shell/relative-time.js';
import { useScope } from '../shell/scope.js';
import { useApi } from '../sign-in/app-services.js';
import { formatTimeIn, formatUntil, zoneOf } from './schedule-text.js';

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

/** The server's clock can be a second behind what the page knows of it. */
const readAgainMs = 5_000;

/**
 * What the schedules do now: it changes in the second of each change. When the known changes have passed, a snapshot brings
 * the next ones; null until then. Undefined without schedules.
 */
export function useScheduled({ id, schedule_state: live }: FeatureState) {
  const api = useApi();
  const { project, environment } = useScope();
  const nowMs = useNowMs(live === undefined ? Infinity : 1_000);
  const { data: state = live } = useQuery<ScheduleState | undefined>({
    queryKey: ['schedule', id, environment.id, live],
    queryFn: async () => {
      const place = new URLSearchParams({ project_id: project.id, env_id: environment.id }).toString();
      const { features } = await api.get<{ features: readonly FeatureState[] }>(`/api/snapshot?${place}`);
      return features.find((each) => each.id === id)?.schedule_state ?? live;
    },
    enabled: ({ state: { data: read = live } }) => read !== undefined && scheduledAt(read, nowMs) === null,
    refetchInterval: readAgainMs,
  });
  return state && { state, now: scheduledAt(state, nowMs) };
}

/** What the schedules of a flag that is switched on do now and next, e.g. `Switches off in 10 minutes (14:30 Europe/Berlin)`. */
export function ScheduleNote({ feature }: { readonly feature: FeatureState }) {
  const { t, format } = useI18n();
  const nowMs = useNowMs(1_000);
  const schedule = useScheduled(feature);
  if (schedule === undefined || !feature.enabled) return null;
  const { targeting, shell } = t;
  const { locale } = format;
  if (schedule.now === null) return <Text size="xs">{shell.loading}…</Text>;
  const { enabled, next } = schedule.now;
  const now = enabled ? targeting.onNow : targeting.offNow;
  // When a schedule ends, none decides: it is the one that has decided until then.
  const decidingId = next?.schedule_id ?? schedule.state.schedule_id;
  const deciding = feature.schedules?.find(({ id }) => id === decidingId);
  const zone = zoneOf(deciding?.timezone ?? null);
  const textOfNext = (change: ScheduledChange): string => {
    const atMs = Date.parse(change.at);
    const text = change.enabled ? targeting.switchesOn : targeting.switchesOff;
    return text(formatUntil(locale, atMs, nowMs), `${formatTimeIn(locale, zone, atMs, nowMs)} ${zone}`);
  };
  return (
    <Text size="xs" {...(!enabled && { c: 'var(--fc-warn)' })}>
      {next === null ? now : `${now}. ${textOfNext(next)}`}
    </Text>
  );
}
