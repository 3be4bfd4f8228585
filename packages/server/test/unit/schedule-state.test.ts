import type { FeatureSchedule, ScheduleState } from '@flagcast/protocol';
import { Cron } from 'croner';
import { describe, expect, it, vi } from 'vitest';
import { scheduleStateAt } from '../../src/host/schedule-state.js';

const created = '2024-01-01T00:00:00.000000Z';

const schedule = (id: string, values: Partial<FeatureSchedule>): FeatureSchedule => ({
  ...{ id, action: 'enable', starts_at: null, ends_at: null, cron_expr: null, cron_duration: null },
  ...{ timezone: 'UTC', created_at: created },
  ...values,
});

function stateAt(now: string, schedules: readonly FeatureSchedule[], baseline = false): ScheduleState {
  return scheduleStateAt({ created_at: created, baseline, schedules }, Date.parse(now));
}

/** The times of the changes, with what the feature is from then on. */
const changesOf = ({ next_changes }: ScheduleState): string[] =>
  next_changes.map(({ at, enabled }) => `${at.replace(/:00.000Z$/, 'Z')} ${enabled ? 'on' : 'off'}`);

describe('the state of schedules', () => {
  it('is the baseline before an interval begins and after it has ended, with the schedule that decides', () => {
    const launch = schedule('launch', { starts_at: '2024-05-01T09:00:00Z', ends_at: '2024-05-02T09:00:00Z' });
    const changes = [
      { at: '2024-05-01T09:00:00.000Z', enabled: true, schedule_id: 'launch' },
      { at: '2024-05-02T09:00:00.000Z', enabled: false, schedule_id: null },
    ];
    const known = { known_until: null, invalid_schedule_ids: [] };
    expect(stateAt('2024-04-30T00:00:00Z', [launch])).toStrictEqual({
      ...{ enabled: false, schedule_id: null, next_changes: changes },
      ...known,
    });
    expect(stateAt('2024-05-01T09:00:00Z', [launch])).toStrictEqual({
      ...{ enabled: true, schedule_id: 'launch', next_changes: changes.slice(1) },
      ...known,
    });
    expect(stateAt('2024-05-02T09:00:00Z', [launch])).toStrictEqual({
      ...{ enabled: false, schedule_id: null, next_changes: [] },
      ...known,
    });
  });

  it('is decided by the newest schedule that acts; of two equally old ones, by one that disables', () => {
    const old = schedule('old', { ends_at: '2024-06-01T00:00:00Z' });
    const newer = schedule('newer', {
      ...{ action: 'disable', created_at: '2024-02-01T00:00:00Z' },
      ...{ starts_at: '2024-03-01T00:00:00Z', ends_at: '2024-04-01T00:00:00Z' },
    });
    const state = stateAt('2024-02-02T00:00:00Z', [newer, old]);
    expect(state).toMatchObject({ enabled: true, schedule_id: 'old' });
    expect(changesOf(state)).toStrictEqual([
      '2024-03-01T00:00Z off',
      '2024-04-01T00:00Z on',
      '2024-06-01T00:00Z off',
    ]);
    const twin = schedule('twin', { action: 'disable' });
    for (const order of [
      [old, twin],
      [twin, old],
    ]) {
      expect(stateAt('2024-02-02T00:00:00Z', order)).toMatchObject({ enabled: false, schedule_id: 'twin' });
    }
  });

  it('follows a cron expression in its time zone, for the duration after each match', () => {
    const office = schedule('office', {
      ...{ cron_expr: '0 9 * * MON-FRI', cron_duration: '8h30m', timezone: 'Europe/Berlin' },
    });
    const state = stateAt('2024-05-03T10:00:00Z', [office]);
    expect(state).toMatchObject({ enabled: true, schedule_id: 'office' });
    expect(changesOf(state)).toStrictEqual([
      '2024-05-03T15:30Z off',
      '2024-05-06T07:00Z on',
      '2024-05-06T15:30Z off',
      '2024-05-07T07:00Z on',
      '2024-05-07T15:30Z off',
    ]);
    expect(state.known_until).toBe('2024-05-08T07:00:00.000Z');
  });

  it('acts without a duration from the first match on, and never outside of the start and the end', () => {
    const nightly = schedule('nightly', {
      ...{ cron_expr: '0 22 * * *', starts_at: '2024-05-01T22:00:30Z', ends_at: '2024-05-04T12:00:00Z' },
    });
    expect(changesOf(stateAt('2024-05-01T00:00:00Z', [nightly]))).toStrictEqual([
      '2024-05-02T22:00Z on',
      '2024-05-04T12:00Z off',
    ]);
    expect(changesOf(stateAt('2024-05-01T00:00:00Z', [{ ...nightly, cron_duration: '24h' }]))).toStrictEqual([
      '2024-05-02T22:00Z on',
      '2024-05-04T12:00Z off',
    ]);
  });

  it('skips a local time that does not exist, and takes one twice that occurs twice', () => {
    const zone = { timezone: 'America/New_York', cron_duration: '10m' };
    const gap = schedule('gap', { ...zone, cron_expr: '30 2 * * *' });
    expect(
      changesOf(stateAt('2024-03-09T12:00:00Z', [gap])).filter((change) => change.endsWith('on')),
    ).toStrictEqual(['2024-03-11T06:30Z on', '2024-03-12T06:30Z on', '2024-03-13T06:30Z on']);
    const twice = schedule('twice', { ...zone, cron_expr: '30 1 * * *' });
    expect(
      changesOf(stateAt('2024-11-02T12:00:00Z', [twice])).filter((change) => change.endsWith('on')),
    ).toStrictEqual(['2024-11-03T05:30Z on', '2024-11-03T06:30Z on', '2024-11-04T06:30Z on']);
  });

  it.each([
    ['an expression', { cron_expr: 'every day' }],
    ['an expression with seconds', { cron_expr: '0 0 9 * * *' }],
    ['an expression of 250,000 characters', { cron_expr: '9,'.repeat(125_000) }],
    ['a time zone', { cron_expr: '0 9 * * *', timezone: 'Mars/Olympus' }],
    ['a duration', { cron_expr: '0 9 * * *', cron_duration: 'an hour' }],
  ])('leaves out a schedule with %s that is not valid, and no other', (_, values) => {
    const good = schedule('good', { starts_at: '2024-05-01T00:00:00Z' });
    const bad = schedule('bad', { ...values, created_at: '2024-02-01T00:00:00Z' });
    const state = stateAt('2024-04-01T00:00:00Z', [good, bad]);
    expect(state.invalid_schedule_ids).toStrictEqual(['bad']);
    expect(changesOf(state)).toStrictEqual(['2024-05-01T00:00Z on']);
  });

  it('is known only for a bounded number of steps that change nothing', () => {
    const always = schedule('always', { cron_expr: '* * * * *', cron_duration: '1000000h' });
    const state = stateAt('2024-05-01T00:00:00Z', [always]);
    expect(state).toMatchObject({ enabled: true, next_changes: [] });
    expect(Date.parse(state.known_until ?? '')).toBeGreaterThan(Date.parse('2024-05-01T00:00:00Z'));
  });

  it('searches once for the times of an expression that never matches, and a few times for those of many others', () => {
    const searches = vi.spyOn(Cron.prototype, 'nextRun');
    stateAt('2024-05-01T00:00:00Z', [schedule('never', { cron_expr: '7 7 30 2 *', cron_duration: '1h' })]);
    expect(searches).toHaveBeenCalledTimes(1);
    const hourly = Array.from({ length: 30 }, (_, minute) =>
      schedule(`at ${minute}`, { cron_expr: `${minute} * * * *`, cron_duration: '30s' }),
    );
    const state = stateAt('2024-05-01T00:00:00Z', hourly);
    expect(state.known_until).toBe('2024-05-01T00:03:00.000Z');
    expect(searches.mock.calls.length).toBeLessThan(150);
    expect(stateAt('2024-05-01T00:00:00Z', hourly)).toStrictEqual(state);
    expect(searches.mock.calls.length).toBeLessThan(150);
    searches.mockRestore();
  });

  it.each([
    ['infinity', '-infinity'],
    ['12024-01-01T00:00:00.000000Z', '0044-03-15T12:00:00.000000Z BC'],
  ])('takes %s and %s for times that never come and that have passed', (later, earlier) => {
    const never = schedule('never', { starts_at: later });
    const always = schedule('always', { starts_at: earlier, ends_at: later, cron_expr: '0 0 30 2 *' });
    const now = schedule('now', { starts_at: earlier, ends_at: later });
    expect(stateAt('2024-05-01T00:00:00Z', [never, always])).toMatchObject({
      enabled: false,
      next_changes: [],
    });
    expect(stateAt('2024-05-01T00:00:00Z', [now])).toMatchObject({ enabled: true, next_changes: [] });
  });
});
