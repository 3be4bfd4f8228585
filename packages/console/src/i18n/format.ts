import type { Messages } from './en.js';

/** Formats numbers and times in a language. Times are milliseconds since the epoch, shown in the browser's time zone. */
export interface Format {
  readonly number: (value: number) => string;
  /** E.g. `14:02`. */
  readonly time: (atMs: number) => string;
  /** E.g. `14:02:07`. */
  readonly timeWithSeconds: (atMs: number) => string;
  /** E.g. `23 Nov 2026, 14:02:07`. */
  readonly dateTime: (atMs: number) => string;
  /** The same with the time zone. */
  readonly exact: (atMs: number) => string;
  /** E.g. `23 Nov`. */
  readonly date: (atMs: number) => string;
  /** E.g. `today`, `Monday, 23 November`; with the year if it is not the current one. */
  readonly day: (atMs: number, nowMs: number) => string;
  /** E.g. `just now`, `12 s ago`, `yesterday`. */
  readonly ago: (atMs: number, nowMs: number) => string;
  /** E.g. `in 45 seconds`, `in 10 minutes`, rounded up. */
  readonly until: (atMs: number, nowMs: number) => string;
  /** The time in the time zone of `zoneOf`, e.g. `14:30`, with the day if that is not today. */
  readonly timeIn: (atMs: number, timeZone: string | null, nowMs: number) => string;
  /** Days of the week from Sunday as 0, e.g. `Mon, Tue`. */
  readonly weekdays: (days: readonly number[]) => string;
}

/** Milliseconds since the epoch; null if the text is not RFC 3339, such as `infinity` or a year before 1. */
export function toTimeMs(text: string): number | null {
  const isTime = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$/.test(text);
  const atMs = isTime ? Date.parse(text) : Number.NaN;
  return Number.isNaN(atMs) ? null : atMs;
}

/** A day in 2023 that was a Sunday. */
const sundayMs = Date.UTC(2023, 0, 1);

const justNowSeconds = 5;
const minuteSeconds = 60;
const hourSeconds = 3_600;
const daySeconds = 86_400;

/** Days of the calendar in the browser's time zone. */
function daysBetween(atMs: number, nowMs: number): number {
  const midnight = (timeMs: number): number => new Date(timeMs).setHours(0, 0, 0, 0);
  return Math.round((midnight(nowMs) - midnight(atMs)) / (daySeconds * 1_000));
}

/** The time zone, or that of the browser if it does not know this one. */
export function zoneOf(timeZone: string | null): string {
  try {
    return new Intl.DateTimeFormat('en', { timeZone: timeZone ?? undefined }).resolvedOptions().timeZone;
  } catch {
    return zoneOf(null);
  }
}

export function createFormat(locale: string, messages: Messages['time']): Format {
  const number = new Intl.NumberFormat(locale);
  const time = new Intl.DateTimeFormat(locale, { hour: '2-digit', minute: '2-digit', hour12: false });
  const timeWithSeconds = new Intl.DateTimeFormat(locale, {
    hour: '2-digit',
    minute: '2-digit',
    second: '2-digit',
    hour12: false,
  });
  const dateTime = new Intl.DateTimeFormat(locale, {
    dateStyle: 'medium',
    timeStyle: 'medium',
    hour12: false,
  });
  const exact = new Intl.DateTimeFormat(locale, { dateStyle: 'medium', timeStyle: 'long', hour12: false });
  const date = new Intl.DateTimeFormat(locale, { day: 'numeric', month: 'short' });
  const day = new Intl.DateTimeFormat(locale, { weekday: 'long', day: 'numeric', month: 'long' });
  const dayOfYear = new Intl.DateTimeFormat(locale, { day: 'numeric', month: 'long', year: 'numeric' });
  const relative = new Intl.RelativeTimeFormat(locale, { numeric: 'auto' });
  const daysAgo = (days: number): string => {
    if (days >= 365) return relative.format(-Math.floor(days / 365), 'year');
    return days >= 60 ? relative.format(-Math.floor(days / 30), 'month') : relative.format(-days, 'day');
  };
  const weekday = new Intl.DateTimeFormat(locale, { weekday: 'short', timeZone: 'UTC' });
  const inUnit = new Intl.RelativeTimeFormat(locale);
  return {
    until: (atMs, nowMs) => {
      const seconds = Math.max(0, Math.ceil((atMs - nowMs) / 1_000));
      if (seconds <= minuteSeconds) return inUnit.format(seconds, 'second');
      if (seconds <= hourSeconds) return inUnit.format(Math.ceil(seconds / minuteSeconds), 'minute');
      if (seconds <= daySeconds) return inUnit.format(Math.ceil(seconds / hourSeconds), 'hour');
      return inUnit.format(Math.ceil(seconds / daySeconds), 'day');
    },
    timeIn: (atMs, zone, nowMs) => {
      const timeZone = zoneOf(zone);
      const date = new Intl.DateTimeFormat(locale, { timeZone, dateStyle: 'medium' });
      const isToday = date.format(atMs) === date.format(nowMs);
      const style = { timeZone, timeStyle: 'short', hour12: false } as const;
      return new Intl.DateTimeFormat(locale, isToday ? style : { ...style, dateStyle: 'medium' }).format(
        atMs,
      );
    },
    weekdays: (days) => days.map((each) => weekday.format(sundayMs + each * daySeconds * 1_000)).join(', '),
    number: (value) => number.format(value),
    time: (atMs) => time.format(atMs),
    timeWithSeconds: (atMs) => timeWithSeconds.format(atMs),
    dateTime: (atMs) => dateTime.format(atMs),
    exact: (atMs) => exact.format(atMs),
    date: (atMs) => date.format(atMs),
    day: (atMs, nowMs) => {
      const days = daysBetween(atMs, nowMs);
      if (days === 0 || days === 1) return relative.format(-days, 'day');
      const isThisYear = new Date(atMs).getFullYear() === new Date(nowMs).getFullYear();
      return (isThisYear ? day : dayOfYear).format(atMs);
    },
    ago: (atMs, nowMs) => {
      const seconds = Math.floor((nowMs - atMs) / 1_000);
      // "Yesterday" is a day of the calendar, not 24 hours.
      if (seconds >= daySeconds) return daysAgo(daysBetween(atMs, nowMs));
      if (seconds >= hourSeconds) return messages.hoursAgo(Math.floor(seconds / hourSeconds));
      if (seconds >= minuteSeconds) return messages.minutesAgo(Math.floor(seconds / minuteSeconds));
      return seconds < justNowSeconds ? messages.justNow : messages.secondsAgo(seconds);
    },
  };
}
