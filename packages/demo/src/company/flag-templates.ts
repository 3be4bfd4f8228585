import { isDeepStrictEqual } from 'node:util';
import type { Json, AuditState } from './dataset-builder.js';
import type { FlagTemplate } from './company.js';
import { billingFlags } from './flags-billing.js';
import { mobileAppFlags } from './flags-mobile-app.js';
import { webShopFlags } from './flags-web-shop.js';
import type { Random } from './random.js';

/** The flags of each project, by the project's name. */
export const flagTemplates: Readonly<Record<string, readonly FlagTemplate[]>> = {
  'Web shop': webShopFlags,
  'Mobile app': mobileAppFlags,
  Billing: billingFlags,
};

/** Old flags, one for each project, which are deleted during the history. */
export const retiredFlags: Readonly<Record<string, FlagTemplate>> = {
  'Web shop': {
    key: 'legacy-basket',
    name: 'Legacy basket',
    description: 'The basket before the rewrite; kept for a month',
    rollout: 'off',
    values: [],
  },
  'Mobile app': {
    key: 'tablet-split-view',
    name: 'Tablet split view',
    description: 'Two panes on tablets; is always on now',
    rollout: 'prod',
    values: [],
  },
  Billing: {
    key: 'paper-invoices',
    name: 'Paper invoices',
    description: 'Invoices by post; discontinued',
    rollout: 'off',
    values: [],
  },
};

const conditionTemplates: readonly { readonly [key: string]: Json }[] = [
  { attribute: 'country', operator: 'in', value: ['DE', 'AT', 'CH'] },
  { attribute: 'country', operator: 'in', value: ['PL', 'CZ'] },
  { attribute: 'customer_group', operator: 'eq', value: 'employees' },
  { attribute: 'customer_group', operator: 'eq', value: 'beta' },
  { attribute: 'app_version', operator: 'gte', value: '8.2.0' },
  { attribute: 'platform', operator: 'eq', value: 'ios' },
  { attribute: 'platform', operator: 'eq', value: 'android' },
  { attribute: 'orders_total', operator: 'gte', value: 5 },
  { attribute: 'user_id', operator: 'percentage', value: 10 },
  { attribute: 'user_id', operator: 'percentage', value: 25 },
  { attribute: 'plan', operator: 'in', value: ['business', 'enterprise'] },
];

/** Returns a random rule of a flag, in the form of `ruleState` in feature-state.ts. */
export function randomRule(random: Random, featureId: string): AuditState {
  const first = random.pick(conditionTemplates);
  const second = random.pick(conditionTemplates);
  const conditions =
    first['attribute'] !== second['attribute'] && random.chance(0.3) ? [first, second] : [first];
  return {
    id: random.uuid(),
    feature_id: featureId,
    conditions,
    action: random.chance(0.8) ? 'include' : 'exclude',
    flag_variant_id: null,
    priority: random.between(1, 9) * 10,
  };
}

const dayMs = 24 * 60 * 60 * 1000;

/** Returns a random schedule of a flag, one-time or by cron, in the form of `scheduleState` in feature-state.ts. */
export function randomSchedule(random: Random, featureId: string, atMs: number): AuditState {
  const once = random.chance(0.5);
  const startsAtMs = Math.ceil(atMs / dayMs) * dayMs + random.between(0, 6) * dayMs + 9 * 60 * 60 * 1000;
  return {
    id: random.uuid(),
    feature_id: featureId,
    starts_at: once ? toIsoSeconds(startsAtMs) : null,
    ends_at: once ? toIsoSeconds(startsAtMs + random.between(1, 10) * dayMs) : null,
    cron_expr: once ? null : random.pick(['0 7 * * 1-5', '0 22 * * *', '30 5 1 * *']),
    timezone: random.pick(['UTC', 'Europe/Berlin', 'Europe/Warsaw']),
    action: random.chance(0.7) ? 'enable' : 'disable',
  };
}

/** Generates states until one differs from `before`, and gives it the id of `before`. */
export function differentState(before: AuditState, generate: () => AuditState): AuditState {
  for (;;) {
    const after = { ...generate(), id: before.id };
    if (!isDeepStrictEqual(after, before)) return after;
  }
}

/** Formats a time without milliseconds, e.g. `2025-09-26T12:00:00Z`. */
export function toIsoSeconds(atMs: number): string {
  return `${new Date(atMs).toISOString().slice(0, 19)}Z`;
}

export const requestReasons = [
  'Stage has been fine for a week',
  'Agreed in the release meeting',
  'Support asks for it, see the ticket of Tuesday',
  'The A/B test is over, the new one wins',
  'Needed before the campaign starts',
  'The error rate went up after the last deployment',
] as const;

export const rejectionReasons = [
  'Not on a Friday, please',
  'The translation is not finished',
  'Let us wait for the load test',
  'Legal has not answered yet',
  'The dashboard still shows errors on stage',
] as const;
