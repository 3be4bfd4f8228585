import type { FeatureSchedule } from '@flagcast/client';
import type { I18n } from '../i18n/i18n.js';
import { toTimeMs } from '../i18n/format.js';
import { visible } from '../i18n/visible.js';

const secondsOf = { minute: 60, hour: 3_600, day: 86_400 };

/** E.g. `in 45 seconds`, `in 10 minutes`, rounded up. */
export function formatUntil(locale: string, atMs: number, nowMs: number): string {
  const { minute, hour, day } = secondsOf;
  const format = new Intl.RelativeTimeFormat(locale);
  const seconds = Math.max(0, Math.ceil((atMs - nowMs) / 1_000));
  if (seconds <= minute) return format.format(seconds, 'second');
  if (seconds <= hour) return format.format(Math.ceil(seconds / minute), 'minute');
  if (seconds <= day) return format.format(Math.ceil(seconds / hour), 'hour');
  return format.format(Math.ceil(seconds / day), 'day');
}

/** The time zone, or that of the browser if it does not know this one. */
export function zoneOf(timeZone: string | null): string {
  try {
    return new Intl.DateTimeFormat('en', { timeZone: timeZone ?? undefined }).resolvedOptions().timeZone;
  } catch {
    return zoneOf(null);
  }
}

/** The time in a time zone, e.g. `14:30`, with the day if that is not today. */
export function formatTimeIn(locale: string, timeZone: string, atMs: number, nowMs: number): string {
  const date = new Intl.DateTimeFormat(locale, { timeZone, dateStyle: 'medium' });
  const isToday = date.format(atMs) === date.format(nowMs);
  const style = { timeZone, timeStyle: 'short', hour12: false } as const;
  return new Intl.DateTimeFormat(locale, isToday ? style : { ...style, dateStyle: 'medium' }).format(atMs);
}

/** A day that was a Sunday. */
const sundayMs = Date.UTC(2023, 0, 1);

/** Days of the week from Sunday as 0, e.g. `Mon, Tue`. */
function formatWeekdays(locale: string, days: readonly number[]): string {
  const weekday = new Intl.DateTimeFormat(locale, { weekday: 'short', timeZone: 'UTC' });
  return days.map((day) => weekday.format(sundayMs + day * secondsOf.day * 1_000)).join(', ');
}

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
