/** Numbers and times as a language writes them. Times are milliseconds since the epoch, shown in the browser's zone. */
export interface Format {
  readonly number: (value: number) => string;
  /** E.g. `14:02`. */
  readonly time: (atMs: number) => string;
  /** E.g. `14:02:07`. */
  readonly timeWithSeconds: (atMs: number) => string;
  /** E.g. `23 Nov 2026, 14:02:07`. */
  readonly dateTime: (atMs: number) => string;
  /** E.g. `today`, `Monday, 23 November`; with its year where that is another one. */
  readonly day: (atMs: number, nowMs: number) => string;
  /** E.g. `2 min. ago`. */
  readonly ago: (atMs: number, nowMs: number) => string;
  /** How long, in its largest unit, e.g. `2 min`. */
  readonly span: (spanMs: number) => string;
}

/** Milliseconds since the epoch; null for a text that is not RFC 3339, such as `infinity` or a year before 1. */
export function toTimeMs(text: string): number | null {
  const isTime = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$/.test(text);
  const atMs = isTime ? Date.parse(text) : Number.NaN;
  return Number.isNaN(atMs) ? null : atMs;
}

const steps = [
  ['day', 86_400_000],
  ['hour', 3_600_000],
  ['minute', 60_000],
] as const;

/** Of the calendar, in the browser's zone. */
function daysBetween(atMs: number, nowMs: number): number {
  const midnight = (timeMs: number): number => new Date(timeMs).setHours(0, 0, 0, 0);
  return Math.round((midnight(nowMs) - midnight(atMs)) / 86_400_000);
}

export function createFormat(language: string): Format {
  const number = new Intl.NumberFormat(language);
  const time = new Intl.DateTimeFormat(language, { hour: '2-digit', minute: '2-digit', hour12: false });
  const timeWithSeconds = new Intl.DateTimeFormat(language, {
    hour: '2-digit',
    minute: '2-digit',
    second: '2-digit',
    hour12: false,
  });
  const dateTime = new Intl.DateTimeFormat(language, {
    dateStyle: 'medium',
    timeStyle: 'medium',
    hour12: false,
  });
  const day = new Intl.DateTimeFormat(language, { weekday: 'long', day: 'numeric', month: 'long' });
  const dayOfYear = new Intl.DateTimeFormat(language, { day: 'numeric', month: 'long', year: 'numeric' });
  const recent = new Intl.RelativeTimeFormat(language, { numeric: 'auto' });
  const units = new Map(
    steps.map(([unit]) => [
      unit,
      new Intl.NumberFormat(language, { style: 'unit', unit, unitDisplay: 'short' }),
    ]),
  );
  const relative = new Intl.RelativeTimeFormat(language, { numeric: 'auto', style: 'short' });
  return {
    number: (value) => number.format(value),
    time: (atMs) => time.format(atMs),
    timeWithSeconds: (atMs) => timeWithSeconds.format(atMs),
    dateTime: (atMs) => dateTime.format(atMs),
    day: (atMs, nowMs) => {
      const days = daysBetween(atMs, nowMs);
      if (days === 0 || days === 1) return recent.format(-days, 'day');
      const isThisYear = new Date(atMs).getFullYear() === new Date(nowMs).getFullYear();
      return (isThisYear ? day : dayOfYear).format(atMs);
    },
    ago: (atMs, nowMs) => {
      const passedMs = Math.max(0, nowMs - atMs);
      // "Yesterday" is a day of the calendar, not 24 hours.
      if (passedMs >= 86_400_000) return relative.format(-daysBetween(atMs, nowMs), 'day');
      for (const [unit, unitMs] of steps) {
        if (passedMs >= unitMs) return relative.format(-Math.floor(passedMs / unitMs), unit);
      }
      return relative.format(0, 'second');
    },
    span: (spanMs) => {
      const [unit, unitMs] = steps.find(([, eachMs]) => spanMs >= eachMs) ?? steps[2];
      const count = Math.floor(Math.max(0, spanMs) / unitMs);
      return `${count === 0 ? '<' : ''}${units.get(unit)?.format(Math.max(1, count)) ?? ''}`;
    },
  };
}
