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
export function formatWeekdays(locale: string, days: readonly number[]): string {
  const weekday = new Intl.DateTimeFormat(locale, { weekday: 'short', timeZone: 'UTC' });
  return days.map((day) => weekday.format(sundayMs + day * secondsOf.day * 1_000)).join(', ');
}
