import type { FeatureState } from '@flagcast/client';
import { useScheduled } from '../features/schedule.js';
import { type I18n, useI18n } from '../i18n/i18n.js';
import { formatTimeIn, formatUntil, zoneOf } from '../i18n/schedule-format.js';
import { useNowMs } from '../shell/relative-time.js';

/** What the schedules of a flag that is switched on do now and next, e.g. `Switches off in 10 minutes (14:30 Europe/Berlin)`. */
export function ScheduleNote({ feature }: { readonly feature: FeatureState }) {
  const texts = useI18n();
  const nowMs = useNowMs(1_000);
  const scheduled = useScheduled(feature);
  if (scheduled === undefined || !feature.enabled) return null;
  const { targeting } = texts.t;
  if (scheduled === null) return <span className="fc-schedule-note">{targeting.unknown}</span>;
  const { enabled, next } = scheduled;
  const now = enabled ? targeting.onNow : targeting.offNow;
  return (
    <span className="fc-schedule-note" data-off={!enabled || undefined}>
      {next === null ? now : `${now}. ${nextText(feature, next, texts, nowMs)}`}
    </span>
  );
}

function nextText(
  { schedules = [], schedule_state: state }: FeatureState,
  { at, enabled, schedule_id: id }: { at: string; enabled: boolean; schedule_id: string | null },
  { t, format }: I18n,
  nowMs: number,
): string {
  const atMs = Date.parse(at);
  // When a schedule ends, none decides: it is the one that has decided until then.
  const decides = schedules.find((each) => each.id === (id ?? state?.schedule_id));
  const zone = zoneOf(decides?.timezone ?? null);
  const time = `${formatTimeIn(format.locale, zone, atMs, nowMs)} ${zone}`;
  const text = enabled ? t.targeting.switchesOn : t.targeting.switchesOff;
  return text(formatUntil(format.locale, atMs, nowMs), time);
}
