import type { FeatureSchedule } from '@flagcast/client';
import type { I18n } from '../i18n/i18n.js';
import { toTimeMs } from '../i18n/format.js';
import { formatTimeIn, formatWeekdays, zoneOf } from '../i18n/schedule-format.js';
import { visible } from '../i18n/visible.js';

const everyDay = /^(\d{1,2}) (\d{1,2}) \* \* ([\d,*-]+)$/;
const everyMonth = /^(\d{1,2}) (\d{1,2}) (\d{1,2}) \* \*$/;

/** The days of `1-5` or `6,0`, from Sunday as 0; null if it is something else. */
function daysOf(text: string): number[] | null {
  const days = text.split(',').flatMap((part) => {
    const [first = Number.NaN, last = first] = part.split('-').map(Number);
    return Array.from({ length: Math.max(0, Math.min(8, last - first + 1)) }, (_, index) => first + index);
  });
  return days.length > 0 && days.every((day) => day >= 0 && day <= 7) ? days : null;
}

/** The times of a cron expression in words; the expression itself if it is not of a usual form. */
function cronText(expression: string, { t, format }: I18n): string {
  const found = everyDay.exec(expression) ?? everyMonth.exec(expression);
  if (found === null) return visible(expression);
  const [, minute = '', hour = '', rest = ''] = found;
  const time = `${hour.padStart(2, '0')}:${minute.padStart(2, '0')}`;
  if (rest === '*') return t.targeting.daily(time);
  if (everyMonth.test(expression)) return t.targeting.monthly(Number(rest), time);
  const days = daysOf(rest);
  return days === null ? visible(expression) : t.targeting.weekly(formatWeekdays(format.locale, days), time);
}

/** When a schedule acts, e.g. `from 30 Nov, 09:00 until 2 Dec, 09:00 Europe/Berlin`. */
export function scheduleText(schedule: FeatureSchedule, texts: I18n, nowMs: number): string {
  const { t, format } = texts;
  const { starts_at: start, ends_at: end, cron_expr: cron, cron_duration: duration, timezone } = schedule;
  const timeOf = (at: string): string => {
    const atMs = toTimeMs(at);
    return atMs === null ? visible(at) : formatTimeIn(format.locale, zoneOf(timezone), atMs, nowMs);
  };
  const parts = [
    cron === null || cron === '' ? null : cronText(cron, texts),
    duration === null || duration === '' ? null : t.targeting.lasts(duration),
    start === null ? null : t.targeting.from(timeOf(start)),
    end === null ? null : t.targeting.until(timeOf(end)),
  ].filter((part) => part !== null);
  const text = parts.length === 0 ? t.targeting.always : parts.join(' ');
  return parts.length === 0 ? text : `${text} ${zoneOf(timezone)}`;
}
