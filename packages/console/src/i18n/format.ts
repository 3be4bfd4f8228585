import type { Messages } from './en.js';

/** Milliseconds since the epoch; null if the text is not RFC 3339, such as `infinity` or a year before 1. */
export function toTimeMs(text: string): number | null {
  const isTime = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$/.test(text);
  const atMs = isTime ? Date.parse(text) : Number.NaN;
  return Number.isNaN(atMs) ? null : atMs;
}

const justNowSeconds = 5;
const minuteSeconds = 60;
const hourSeconds = 3_600;
const daySeconds = 86_400;

/** Days of the calendar in the browser's time zone. */
function daysBetween(atMs: number, nowMs: number): number {
  const midnight = (timeMs: number): number => new Date(timeMs).setHours(0, 0, 0, 0);
  return Math.round((midnight(nowMs) - midnight(atMs)) / (daySeconds * 1_000));
}

export type Format = ReturnType<typeof createFormat>;

/** Formats numbers and times in a language. Times are milliseconds since the epoch, shown in the browser's time zone. */
export function createFormat(locale: string, messages: Messages['time']) {
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
  return {
    /** For formats that only one page needs. */
    locale,
    number: (value: number): string => number.format(value),
    /** E.g. `14:02`. */
    time: (atMs: number): string => time.format(atMs),
    /** E.g. `14:02:07`. */
    timeWithSeconds: (atMs: number): string => timeWithSeconds.format(atMs),
    /** E.g. `23 Nov 2026, 14:02:07`. */
    dateTime: (atMs: number): string => dateTime.format(atMs),
    /** The same with the time zone. */
    exact: (atMs: number): string => exact.format(atMs),
    /** E.g. `23 Nov`. */
    date: (atMs: number): string => date.format(atMs),
    /** E.g. `today`, `Monday, 23 November`; with the year if it is not the current one. */
    day: (atMs: number, nowMs: number): string => {
      const days = daysBetween(atMs, nowMs);
      if (days === 0 || days === 1) return relative.format(-days, 'day');
      const isThisYear = new Date(atMs).getFullYear() === new Date(nowMs).getFullYear();
      return (isThisYear ? day : dayOfYear).format(atMs);
    },
    /** E.g. `just now`, `12 s ago`, `yesterday`. */
    ago: (atMs: number, nowMs: number): string => {
      const seconds = Math.floor((nowMs - atMs) / 1_000);
      // "Yesterday" is a day of the calendar, not 24 hours.
      if (seconds >= daySeconds) return daysAgo(daysBetween(atMs, nowMs));
      if (seconds >= hourSeconds) return messages.hoursAgo(Math.floor(seconds / hourSeconds));
      if (seconds >= minuteSeconds) return messages.minutesAgo(Math.floor(seconds / minuteSeconds));
      return seconds < justNowSeconds ? messages.justNow : messages.secondsAgo(seconds);
    },
  };
}
