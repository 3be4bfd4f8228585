import type { FeatureRule, FeatureSchedule, FeatureState, ScheduleState } from '@flagcast/client';
import { screen, waitFor, within } from '@testing-library/dom';
import { describe, expect, it, vi } from 'vitest';
import { toExpression } from '../src/feature/expression.js';
import { scheduleText } from '../src/feature/schedule-text.js';
import { scheduledAt } from '../src/feature/schedule.js';
import { en } from '../src/i18n/en.js';
import { createFormat } from '../src/i18n/format.js';
import type { I18n } from '../src/i18n/i18n.js';
import { button, click, createServer, openLive, serverActs } from './fixture/console.js';
import { rendered } from './fixture/rendered.js';
import type { ScriptedServer } from './fixture/scripted-server.js';

const page = '/p/shop/dev/features/f1';

function rule(id: string, changes: Partial<FeatureRule> = {}): FeatureRule {
  return {
    id,
    action: 'include',
    condition: '[{"attribute":"country","operator":"in","value":["DE","AT"]}]',
    segment_id: null,
    segment_name: null,
    flag_variant_id: null,
    priority: null,
    ...changes,
  };
}

function schedule(changes: Partial<FeatureSchedule> = {}): FeatureSchedule {
  return {
    id: 's1',
    action: 'enable',
    starts_at: null,
    ends_at: null,
    cron_expr: null,
    cron_duration: null,
    timezone: 'Europe/Berlin',
    created_at: null,
    ...changes,
  };
}

const stateOf = (changes: Partial<ScheduleState>): ScheduleState => ({
  enabled: true,
  schedule_id: 's1',
  next_changes: [],
  known_until: null,
  invalid_schedule_ids: [],
  ...changes,
});

async function openTargeting(
  fields: Partial<FeatureState>,
): Promise<{ server: ScriptedServer; targeting: HTMLElement }> {
  const server = createServer();
  server.store('f1', fields);
  await openLive(page, server);
  return { server, targeting: await screen.findByRole('region', { name: en.targeting.title }) };
}

const lines = (targeting: HTMLElement): (string | null)[] =>
  within(targeting)
    .queryAllByRole('listitem')
    .map(({ textContent }) => textContent);

describe('the targeting of a flag', () => {
  it('says who gets what, and follows the live state', async () => {
    const { server, targeting } = await openTargeting({
      rollout_key: 'user_id',
      rules: [
        rule('r1', { priority: 10 }),
        rule('r2', {
          action: 'exclude',
          condition: JSON.stringify({
            group: {
              operator: 'or',
              children: [
                { condition: { attribute: 'plan', operator: 'eq', value: 'pro' } },
                {
                  group: {
                    operator: 'and_not',
                    children: [
                      { condition: { attribute: 'age', operator: 'gte', value: 18 } },
                      { condition: { attribute: 'email', operator: 'regex', value: 'a@b' } },
                    ],
                  },
                },
              ],
            },
          }),
        }),
        rule('r3', {
          condition: '[{"attribute":"user_id","operator":"percentage","value":20}]',
        }),
        rule('r4', {
          action: 'assign',
          flag_variant_id: 'v1',
          segment_id: 'g1',
          segment_name: 'Beta',
          condition: null,
        }),
        rule('r5', { condition: '{"unknown":9007199254740993}' }),
      ],
      rules_total: 5,
      variants: [{ id: 'v1', name: 'blue', rollout_percent: 30 }],
      variants_total: 1,
      schedules: [],
      schedules_total: 0,
    });
    expect(lines(targeting)).toEqual([
      'On if country is one of DE, AT · priority 10',
      'Off if plan is pro or (age ≥ 18 and not email matches a@b)',
      'On for 20 % of users by user_id',
      'Gets blue if in segment Beta',
      'On if {"unknown":9007199254740993}',
      '30 % of users: blue',
      'Everyone else: the default value',
    ]);
    within(targeting).getByText(en.targeting.readOnly);
    await serverActs(() => {
      server.emit({
        entity: 'rule',
        entity_id: 'r1',
        feature: server.store('f1', { rules: [], variants: [] }),
      });
    });
    await within(targeting).findByText(en.targeting.nothing);
  });

  it('of a flag with many rules shows the first ones, and loads all on demand', async () => {
    const many = Array.from({ length: 500 }, (_, index) => rule(`r${index}`, { priority: index }));
    const { server, targeting } = await openTargeting({ rules: many.slice(0, 30), rules_total: 500 });
    expect(lines(targeting)).toHaveLength(20);
    server.on('GET', /^\/api\/features\/f1$/, () => ({
      body: {
        schedules: [],
        rules: many.map(({ condition, ...rest }) => ({
          ...rest,
          condition: JSON.parse(condition ?? '') as unknown,
        })),
      },
    }));
    await click(button(en.targeting.showAll(500), targeting));
    await waitFor(() => expect(lines(targeting)).toHaveLength(500));
    expect(lines(targeting)[499]).toBe('On if country is one of DE, AT · priority 499');
  });

  it('is absent if the database has no such tables, and needs no request', async () => {
    const server = createServer();
    await openLive(page, server);
    await screen.findByRole('form', { name: en.feature.details });
    expect(screen.queryByRole('region', { name: en.targeting.title })).toBeNull();
    expect(server.paths('GET')).not.toContain('/api/features/f1');
  });

  it('counts down to the next change, which shows in the second in which it happens', async () => {
    const now = Date.now();
    const fields = {
      enabled: true,
      schedules: [schedule()],
      schedule_state: stateOf({
        next_changes: [{ at: new Date(now + 600_000).toISOString(), enabled: false, schedule_id: null }],
      }),
    };
    const { targeting } = await openTargeting(fields);
    within(targeting).getByText(
      /^On now, by schedule\. Switches off in (10|11) minutes \(.*\d\d:\d\d Europe\/Berlin\)$/,
    );
    vi.useFakeTimers({ toFake: ['Date'], now: now + 599_000 });
    await within(targeting).findByText(/Switches off in 1 second /);
    screen.getByText(en.feature.onIn('Development'));
    vi.setSystemTime(now + 600_000);
    await within(targeting).findByText(en.targeting.offNow);
    await rendered();
    screen.getByText(en.feature.offIn('Development'));
  });
});

describe('conditions', () => {
  it.each([
    [[]],
    [{}],
    ['text'],
    [null],
    [{ group: { operator: 'xor', children: [] } }],
    [
      {
        group: {
          operator: 'and',
          children: [{ condition: { attribute: 'a', operator: 'eq', value: 1, negate: true } }],
        },
      },
    ],
    [{ condition: { attribute: 'a', operator: 'eq', value: 1 }, negate: true }],
  ])('of an unknown form are not put into words: %j', (value) => {
    expect(toExpression(value)).toBeNull();
  });
});

describe('schedules', () => {
  const texts = { t: en, format: createFormat('en-GB', en.time) } as I18n;
  const now = Date.UTC(2026, 10, 30, 8);
  it.each([
    [schedule({ timezone: null }), 'always'],
    [schedule({ starts_at: '2026-11-30T13:30:00Z' }), 'from 14:30 Europe/Berlin'],
    [schedule({ ends_at: '2026-12-02T08:00:00Z' }), 'until 2 Dec 2026, 09:00 Europe/Berlin'],
    [schedule({ cron_expr: '0 22 * * *', cron_duration: '8h' }), 'every day at 22:00 for 8h Europe/Berlin'],
    [schedule({ cron_expr: '5 7 * * 1-3' }), 'Mon, Tue, Wed at 07:05 Europe/Berlin'],
    [schedule({ cron_expr: '30 5 1 * *' }), 'on day 1 of each month at 05:30 Europe/Berlin'],
    [schedule({ cron_expr: '*/5 * * * *', timezone: 'UTC' }), '*/5 * * * * UTC'],
    [schedule({ cron_expr: '0 7 * * 5-99' }), '0 7 * * 5-99 Europe/Berlin'],
  ])('are put into words: %#', (each, text) => {
    expect(scheduleText(each, texts, now)).toBe(text);
  });

  it('hold from the moment of each change, and are unknown after the last one that was sent', () => {
    const at = (minute: number): string => new Date(now + minute * 60_000).toISOString();
    const [off, on] = [
      { at: at(1), enabled: false, schedule_id: null },
      { at: at(2), enabled: true, schedule_id: 's1' },
    ];
    const state = stateOf({ next_changes: [off, on], known_until: at(3) });
    expect(scheduledAt(state, now)).toEqual({ enabled: true, next: off });
    expect(scheduledAt(state, now + 60_000)).toEqual({ enabled: false, next: on });
    expect(scheduledAt(state, now + 120_000)).toEqual({ enabled: true, next: null });
    expect(scheduledAt(state, now + 180_000)).toBeNull();
  });

  it('are read again when the changes that were sent have passed', async () => {
    const { server, targeting } = await openTargeting({ enabled: true, schedules: [schedule()] });
    const now = stateOf({ enabled: false });
    const passed = stateOf({ known_until: '2026-01-01T00:00:00Z' });
    // The snapshot has what the schedules do now.
    const feature = { ...server.store('f1', { schedule_state: now }), schedule_state: passed };
    await serverActs(() => server.emit({ feature }));
    await within(targeting).findByText(en.targeting.offNow);
  });
});
