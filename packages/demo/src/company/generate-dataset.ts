import { demoProjects, type DemoProject, type FlagTemplate } from './company.js';
import {
  DatasetBuilder,
  type Author,
  type AuditState,
  type ChangeRequest,
  type EnvironmentKey,
  type Feature,
  type FlagPart,
} from './dataset-builder.js';
import {
  differentState,
  flagTemplates,
  randomRule,
  randomSchedule,
  rejectionReasons,
  requestReasons,
  retiredFlags,
  toIsoSeconds,
} from './flag-templates.js';
import type { Random } from './random.js';

const dayMs = 24 * 60 * 60 * 1000;
const historyDays = 30;
/** Number of open requests at the end. */
const openRequests = { minimum: 4, maximum: 6 };
/** During the last changes no flag is created or deleted, and the open requests stay open. */
const closingChanges = 2 * openRequests.minimum;
/** Minimum age of every row, so that the first live change is the newest. */
const minimumAgeMs = 60_000;

/** The user who switches flags of each project; the owner makes all other changes. */
const memberOf: Readonly<Record<string, string>> = {
  'Web shop': 'bob',
  'Mobile app': 'bob',
  Billing: 'dave',
};
const owner = 'alice';
const administrator = 'root';

/** The dataset, the source of randomness, and the time of the current change. */
interface Context {
  readonly dataset: DatasetBuilder;
  readonly random: Random;
  readonly atMs: number;
}

/** Generates the last thirty days of the company up to `nowMs`; the same seed and time give the same dataset. */
export function generateDataset(random: Random, nowMs: number): DatasetBuilder {
  const dataset = new DatasetBuilder(random);
  const times = workingTimes(random, nowMs);
  const planned = addOldFlags({ dataset, random, atMs: times[0] ?? nowMs });
  times.forEach((atMs, index) => {
    const context = { dataset, random, atMs };
    const untilClosing = times.length - index - closingChanges;
    const isClosing = untilClosing <= 0;
    const due = !isClosing && random.next() < planned.length / untilClosing ? planned.shift() : undefined;
    const open = dataset.openRequests().length;
    if (due !== undefined) due(atMs);
    else if (isClosing && open < openRequests.minimum) requestChange(context);
    else makeRandomChange(context, { mayDecide: !isClosing || open > openRequests.minimum });
  });
  addSchedules(dataset, random, nowMs);
  return dataset;
}

/** Adds schedules to flags of prod: one that ends soon, one on working days, and one that begins next week. */
function addSchedules(dataset: DatasetBuilder, random: Random, nowMs: number): void {
  const hourMs = 3_600_000;
  const inHours = (hours: number): string => toIsoSeconds((Math.ceil(nowMs / hourMs) + hours) * hourMs);
  const once = { cron_expr: null, timezone: 'Europe/Berlin', action: 'enable' } as const;
  const schedules: Readonly<Record<string, Omit<AuditState, 'id' | 'feature_id'>>> = {
    'free-shipping-threshold': { ...once, starts_at: inHours(-72), ends_at: inHours(2) },
    'loyalty-points-banner': { ...once, starts_at: null, ends_at: null, cron_expr: '0 8 * * MON-FRI' },
    'black-friday-queue': { ...once, starts_at: inHours(168), ends_at: inHours(264) },
  };
  for (const feature of dataset.features.values()) {
    const schedule = schedules[feature.template.key];
    if (schedule === undefined) continue;
    const part = { entity: 'feature_schedule', feature, environment: 'prod' } as const;
    dataset.addPart(nowMs - 4 * dayMs, part, { ...schedule, id: random.uuid(), feature_id: feature.id });
  }
}

/** Returns times in office hours, Monday to Friday, in UTC; oldest first. */
function workingTimes(random: Random, nowMs: number): number[] {
  const today = Math.floor(nowMs / dayMs) * dayMs;
  const times: number[] = [];
  for (let day = historyDays; day >= 0; day -= 1) {
    const midnight = today - day * dayMs;
    const weekday = new Date(midnight).getUTCDay();
    const count = weekday === 0 || weekday === 6 ? 0 : random.between(14, 22);
    for (let nth = 0; nth < count; nth += 1) {
      times.push(midnight + random.between(8 * 3600, 18 * 3600) * 1000 + random.between(0, 999));
    }
  }
  return times
    .filter((atMs) => atMs < nowMs - minimumAgeMs && atMs > nowMs - historyDays * dayMs)
    .sort((one, other) => one - other);
}

/** Adds the flags that are older than the history. Returns the creations and deletions to make during it. */
function addOldFlags(context: Context): ((atMs: number) => void)[] {
  const { dataset, random } = context;
  const planned: ((atMs: number) => void)[] = [];
  for (const project of demoProjects) {
    (flagTemplates[project.name] ?? []).forEach((template, index) => {
      if (index % 5 === 4) {
        planned.push((atMs) => {
          dataset.createFeature({ atMs, username: owner }, project, template);
        });
        return;
      }
      const feature = addOldFlag(context, project, template);
      for (const environment of ['prod', 'stage'] as const) {
        if (!random.chance(0.35)) continue;
        const part = { entity: 'rule', feature, environment } as const;
        dataset.addPart(feature.createdAtMs, part, randomRule(random, feature.id));
      }
    });
    const retired = retiredFlags[project.name];
    if (retired === undefined) continue;
    const feature = addOldFlag(context, project, retired);
    planned.push((atMs) => {
      // Open requests of the flag could not be applied any more.
      for (const request of dataset.openRequests()) {
        if (request.feature !== feature) continue;
        dataset.reject({ atMs, username: deciderOf(request) }, request, 'The flag is deleted today');
      }
      dataset.deleteFeature({ atMs, username: owner }, feature);
    });
  }
  // Shuffled, so that the projects alternate.
  return planned
    .map((change) => ({ change, order: random.next() }))
    .sort((one, other) => one.order - other.order)
    .map(({ change }) => change);
}

function addOldFlag(
  { dataset, random, atMs }: Context,
  project: DemoProject,
  template: FlagTemplate,
): Feature {
  const enabledIn: Record<FlagTemplate['rollout'], readonly EnvironmentKey[]> = {
    off: [],
    dev: ['dev'],
    stage: ['dev', 'stage'],
    prod: ['dev', 'stage', 'prod'],
  };
  return dataset.addFeature({
    atMs: atMs - random.between(5, 300) * dayMs,
    project,
    template,
    enabledIn: enabledIn[template.rollout],
  });
}

function makeRandomChange(context: Context, { mayDecide }: { readonly mayDecide: boolean }): void {
  const { dataset, random, atMs } = context;
  const feature = random.pick([...dataset.features.values()]);
  const member = memberOf[feature.project.name] ?? owner;
  const environment = random.chance(0.55) ? 'dev' : 'stage';
  const dice = random.next();
  const open = dataset.openRequests().length;
  if (mayDecide && (open >= openRequests.maximum || (open > 0 && dice < 0.18))) decideOldest(context);
  else if (dice < 0.33 && open < openRequests.maximum) requestChange(context);
  else if (dice < 0.66) {
    const { enabled } = feature.params[environment];
    const username = random.chance(0.65) ? member : random.chance(0.8) ? owner : null;
    dataset.setParams({ atMs, username }, { feature, environment }, { enabled: !enabled });
  } else if (dice < 0.78) editValue(context, feature, environment);
  else if (dice < 0.91) editPart(context, feature, 'rule');
  else if (dice < 0.97) editPart(context, feature, 'feature_schedule');
  else dataset.setDescription({ atMs, username: owner }, feature, otherDescription(feature));
}

function otherDescription({ template, project, description }: Feature): string {
  return description === template.description
    ? `${template.description} (${project.name} team)`
    : template.description;
}

function otherValue(random: Random, feature: Feature, environment: EnvironmentKey): string | null {
  const { defaultValue } = feature.params[environment];
  const others = feature.template.values.filter((value) => value !== defaultValue);
  return others.length === 0 ? null : random.pick(others);
}

function editValue({ dataset, random, atMs }: Context, feature: Feature, environment: EnvironmentKey): void {
  const value = otherValue(random, feature, environment);
  const { enabled } = feature.params[environment];
  const change = value === null ? { enabled: !enabled } : { default_value: value };
  dataset.setParams({ atMs, username: owner }, { feature, environment }, change);
}

/** Changes, deletes or creates a rule or schedule in dev or stage. */
function editPart({ dataset, random, atMs }: Context, feature: Feature, entity: FlagPart['entity']): void {
  const author: Author = { atMs, username: random.chance(0.9) ? owner : administrator };
  const parts = [...dataset.parts.values()].filter(
    (one) =>
      one.entity === entity && one.environment !== 'prod' && (one.feature === feature || random.chance(0.5)),
  );
  const randomState = (id: string): AuditState =>
    entity === 'rule' ? randomRule(random, id) : randomSchedule(random, id, atMs);
  if (parts.length === 0 || random.chance(0.4)) {
    const environment = random.chance(0.55) ? 'dev' : 'stage';
    if (!parts.some((one) => one.feature === feature && one.environment === environment)) {
      dataset.putPart(author, { entity, feature, environment }, randomState(feature.id));
      return;
    }
  }
  const part = random.pick(parts);
  if (random.chance(0.5)) {
    dataset.putPart(
      author,
      part,
      differentState(part.state, () => randomState(part.feature.id)),
    );
  } else dataset.deletePart(author, part);
}

/** Requests a change in prod, which needs an approval. */
function requestChange({ dataset, random, atMs }: Context): void {
  const busy = new Set(dataset.openRequests().map((request) => request.feature));
  const feature = random.pick([...dataset.features.values()].filter((one) => !busy.has(one)));
  const reason = random.pick(requestReasons);
  const value = otherValue(random, feature, 'prod');
  const request = { atMs, feature, environment: 'prod', reason } as const;
  if (random.chance(0.2)) {
    dataset.request({ ...request, requestedBy: owner, wanted: { rule: randomRule(random, feature.id) } });
  } else if (value !== null && random.chance(0.6)) {
    dataset.request({ ...request, requestedBy: owner, wanted: { params: { default_value: value } } });
  } else {
    const requestedBy = memberOf[feature.project.name] ?? owner;
    const params = { enabled: !feature.params.prod.enabled };
    dataset.request({ ...request, requestedBy, wanted: { params } });
  }
}

/** Approves, rejects or cancels the oldest request. Users do not decide their own requests. */
function decideOldest({ dataset, random, atMs }: Context): void {
  const [request] = dataset.openRequests();
  if (request === undefined) return;
  const author = { atMs, username: deciderOf(request) };
  const dice = random.next();
  if (dice < 0.68) dataset.approve(author, request);
  else if (dice < 0.86) dataset.reject(author, request, random.pick(rejectionReasons));
  else request.status = 'cancelled';
}

function deciderOf({ requestedBy }: ChangeRequest): string {
  return requestedBy === owner ? administrator : owner;
}
