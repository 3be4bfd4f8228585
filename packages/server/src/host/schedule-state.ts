import type { FeatureSchedule, ScheduledChange, ScheduleState } from '@flagcast/protocol';
import { Cron } from 'croner';

/** What the database has about the schedules of a feature. */
interface ScheduleFacts {
  /** When the feature was created: schedules without `starts_at` act from then on. */
  readonly created_at: string;
  /** Whether the feature is on while no schedule acts. */
  readonly baseline: boolean;
  readonly schedules: readonly FeatureSchedule[];
}

/** A schedule as numbers; times in milliseconds since the epoch. It acts from `startMs` until before `endMs`. */
interface Window {
  readonly id: string;
  readonly enables: boolean;
  readonly createdMs: number;
  readonly startMs: number;
  readonly endMs: number;
  /** Null: it acts all the time. */
  readonly cron: CronTimes | null;
  /** For how long it acts after each match of `cron`; infinite without a duration. */
  readonly durationMs: number;
}

type Decision = Pick<ScheduledChange, 'enabled' | 'schedule_id'>;

const maxChanges = 5;
/** Schedules can begin and end many times without a change, for example while another one decides. */
const maxSteps = 50;
/** The last moment that RFC 3339 can express. */
const maxMs = Date.parse('9999-12-31T23:59:59.999Z');
const unitsMs = { ns: 1e-6, us: 1e-3, µs: 1e-3, ms: 1, s: 1_000, m: 60_000, h: 3_600_000 };
/** How many expressions, and how many gaps of each, are remembered: a flag's steps. */
const maxRemembered = 10_000;
const maxGaps = 64;

/** What schedules do from `nowMs` on. PROTOCOL.md has the rules, which are those of Togglr. */
export function scheduleStateAt(facts: ScheduleFacts, nowMs: number): ScheduleState {
  const createdMs = toMs(facts.created_at);
  const windows: Window[] = [];
  const invalid: string[] = [];
  for (const schedule of facts.schedules) {
    const window = toWindow(schedule, createdMs);
    if (window === null) invalid.push(schedule.id);
    else windows.push(window);
  }
  const first = decide(windows, facts.baseline, nowMs);
  const changes: ScheduledChange[] = [];
  let [atMs, current, knownUntil] = [nowMs, first, null as string | null];
  for (let steps = 1; knownUntil === null; steps += 1) {
    atMs = Math.min(...windows.map((window) => nextStep(window, atMs)));
    if (atMs > maxMs) break;
    const next = decide(windows, facts.baseline, atMs);
    const isChange = next.enabled !== current.enabled;
    const at = new Date(atMs).toISOString();
    if (isChange && changes.length === maxChanges) knownUntil = at;
    else if (isChange) changes.push({ at, ...next });
    if (steps === maxSteps) knownUntil ??= at;
    current = next;
  }
  return { ...first, next_changes: changes, known_until: knownUntil, invalid_schedule_ids: invalid };
}

/** The newest schedule that acts; of two that were created at the same time, one that disables. */
function decide(windows: readonly Window[], baseline: boolean, atMs: number): Decision {
  let newest: Window | null = null;
  for (const window of windows) {
    if (!isActing(window, atMs)) continue;
    const isNewer = newest === null || window.createdMs > newest.createdMs;
    if (isNewer || (window.createdMs === newest?.createdMs && !window.enables)) newest = window;
  }
  return { enabled: newest?.enables ?? baseline, schedule_id: newest?.id ?? null };
}

function isActing(window: Window, atMs: number): boolean {
  return atMs >= window.startMs && atMs < window.endMs && lastMatch(window, atMs) <= atMs;
}

/** The first match within the duration before `atMs`: it has begun if it is not later than `atMs`. */
function lastMatch({ cron, startMs, durationMs }: Window, atMs: number): number {
  return cron === null ? startMs : cron.after(Math.max(startMs - 1, atMs - durationMs));
}

/** When it begins or ends after `atMs`; infinite if it does not. It may act before and after that, too. */
function nextStep(window: Window, atMs: number): number {
  const { startMs, endMs, durationMs, cron } = window;
  if (atMs < startMs) return startMs;
  if (atMs >= endMs) return Infinity;
  if (cron === null) return endMs;
  const match = lastMatch(window, atMs);
  return Math.min(endMs, match > atMs ? match : match + durationMs);
}

/** Null if it cannot be evaluated. */
function toWindow(schedule: FeatureSchedule, featureCreatedMs: number): Window | null {
  const { id, action, starts_at, ends_at, cron_expr, cron_duration, timezone } = schedule;
  const durationMs = toDurationMs(cron_duration ?? '');
  const cron = (cron_expr ?? '') === '' ? null : cronTimes(cron_expr ?? '', timezone ?? '');
  if (cron === undefined || (cron !== null && Number.isNaN(durationMs))) return null;
  return {
    id,
    enables: action === 'enable',
    createdMs: toMs(schedule.created_at),
    // Earlier times make no difference, and -infinity is no date.
    startMs: Math.max(0, starts_at === null ? featureCreatedMs : toMs(starts_at)),
    endMs: ends_at === null ? Infinity : toMs(ends_at),
    cron,
    durationMs,
  };
}

/** Times before the year 1 and after 9999 are not RFC 3339. */
function toMs(time: string | null): number {
  const ms = Date.parse(time ?? '-infinity');
  if (!Number.isNaN(ms)) return ms;
  return time === null || time.startsWith('-') || time.endsWith('BC') ? -Infinity : Infinity;
}

/** The text of a duration of Go, such as `1h30m`. NaN if it is not one; no duration is infinite. */
function toDurationMs(text: string): number {
  const parts = [...text.matchAll(/(\d+\.?\d*|\.\d+)(ns|us|µs|ms|s|m|h)/g)];
  if (parts.map(([part]) => part).join('') !== text) return /^[+-]?0$/.test(text) ? Infinity : Number.NaN;
  let ms = 0;
  for (const [, value, unit] of parts) ms += Number(value) * unitsMs[unit as keyof typeof unitsMs];
  return ms === 0 ? Infinity : ms;
}

/** No match after `fromMs` and before `nextMs`. */
interface Gap {
  readonly fromMs: number;
  readonly nextMs: number;
}

/** Days and weekdays meet in all ways within 28 years. */
const allCalendars = '2000-2027';

/** The times of a cron expression in a time zone. They are whole minutes. */
class CronTimes {
  readonly #create: () => Cron;
  /** It has 80 KB, and is rarely needed once the gaps are known. */
  #cron: WeakRef<Cron>;
  readonly #gaps: Gap[] = [];

  /** Throws if the expression or the time zone is not valid. */
  constructor(expression: string, timezone: string) {
    // With a step in the field of the seconds, croner skips local times that do not exist and takes those twice that
    // occur twice, as Togglr's library does.
    const create = (years: string): Cron =>
      new Cron(`*/60 ${expression}${years}`, {
        mode: years === '' ? '6-part' : '7-part',
        sloppyRanges: true,
        timezone: timezone === '' ? 'UTC' : timezone,
      });
    this.#create = () => create('');
    this.#cron = new WeakRef(this.#create());
    // Otherwise croner would look through 400 years each time.
    const hasMatch = create(` ${allCalendars}`).nextRun(new Date('1999-12-01T00:00:00Z')) !== null;
    if (!hasMatch) this.#gaps.push({ fromMs: -Infinity, nextMs: Infinity });
  }

  /** The first time after `ms`; infinite if there is none. */
  after(ms: number): number {
    const fromMs = Math.floor(ms / 60_000) * 60_000;
    let gap = this.#gaps.find((known) => fromMs >= known.fromMs && fromMs < known.nextMs);
    if (gap === undefined) {
      gap = { fromMs, nextMs: fromMs > maxMs ? Infinity : this.#search(fromMs) };
      if (this.#gaps.push(gap) > maxGaps) this.#gaps.shift();
    }
    return gap.nextMs;
  }

  #search(ms: number): number {
    const cron = this.#cron.deref() ?? this.#create();
    this.#cron = new WeakRef(cron);
    return cron.nextRun(new Date(ms))?.getTime() ?? Infinity;
  }
}

/** Shared by all features: to parse an expression costs about 0.5 ms, and each search for a time 0.1 ms. */
const knownCrons = new Map<string, CronTimes | undefined>();

/** Undefined if the expression or the time zone is not valid. */
function cronTimes(expression: string, timezone: string): CronTimes | undefined {
  const key = JSON.stringify([expression, timezone]);
  if (!knownCrons.has(key)) {
    if (knownCrons.size === maxRemembered) knownCrons.clear();
    knownCrons.set(key, parse(expression, timezone));
  }
  return knownCrons.get(key);
}

function parse(expression: string, timezone: string): CronTimes | undefined {
  try {
    return new CronTimes(expression, timezone);
  } catch {
    return undefined;
  }
}
