import {
  Chronicle,
  type ChangeRequest,
  type EnvironmentKey,
  type Feature,
  type Part,
  type State,
} from './chronicle.js';
import {
  flagIdeas,
  inventRule,
  inventSchedule,
  reinvent,
  rejectionReasons,
  requestReasons,
  retiredIdeas,
} from './ideas.js';
import type { FlagIdea } from './flag-idea.js';
import { demoProjects, type DemoProject } from './people.js';
import type { Random } from './random.js';

const dayMs = 24 * 60 * 60 * 1000;
const storyDays = 30;
/** How many requests wait when the story ends, at least and at most. */
const openRequests = { fewest: 4, most: 6 };
/** At the end the flags have come and gone, and what waits is left waiting. */
const closingMoments = 2 * openRequests.fewest;
/** Nothing in the past may be younger than this, so that the first live change is the newest. */
const quietMs = 60_000;

/** Who switches flags in each project; the owner does the rest. */
const memberOf: Readonly<Record<string, string>> = {
  'Web shop': 'bob',
  'Mobile app': 'bob',
  Billing: 'dave',
};
const owner = 'alice';
const administrator = 'root';

/** The company's last thirty days up to `nowMs`: the same for the same chance and time. */
export function inventHistory(random: Random, nowMs: number): Chronicle {
  const chronicle = new Chronicle(random);
  const moments = workingMoments(random, nowMs);
  const begin = moments[0] ?? nowMs;
  const events = newcomers(chronicle, random, begin);
  moments.forEach((atMs, index) => {
    const beforeClosing = moments.length - index - closingMoments;
    const isClosing = beforeClosing <= 0;
    const due = !isClosing && random.next() < events.length / beforeClosing ? events.shift() : undefined;
    const open = chronicle.openRequests().length;
    if (due !== undefined) due(atMs);
    else if (isClosing && open < openRequests.fewest) ask(chronicle, random, atMs);
    else act(chronicle, random, atMs, { mayDecide: !isClosing || open > openRequests.fewest });
  });
  return chronicle;
}

/** Office hours, Monday to Friday, in UTC; oldest first. */
function workingMoments(random: Random, nowMs: number): number[] {
  const today = Math.floor(nowMs / dayMs) * dayMs;
  const moments: number[] = [];
  for (let day = storyDays; day >= 0; day -= 1) {
    const midnight = today - day * dayMs;
    const weekday = new Date(midnight).getUTCDay();
    const count = weekday === 0 || weekday === 6 ? 0 : random.between(14, 22);
    for (let nth = 0; nth < count; nth += 1) {
      moments.push(midnight + random.between(8 * 3600, 18 * 3600) * 1000 + random.between(0, 999));
    }
  }
  return moments
    .filter((atMs) => atMs < nowMs - quietMs && atMs > nowMs - storyDays * dayMs)
    .sort((one, other) => one - other);
}

/** Fills in what is older than the story; answers the flags that come and go in its course. */
function newcomers(chronicle: Chronicle, random: Random, begin: number): ((atMs: number) => void)[] {
  const events: ((atMs: number) => void)[] = [];
  for (const project of demoProjects) {
    (flagIdeas[project.name] ?? []).forEach((idea, index) => {
      if (index % 5 === 4) {
        events.push((atMs) => {
          chronicle.createFeature(atMs, owner, project, idea);
        });
        return;
      }
      const feature = addOldFeature(chronicle, random, begin, project, idea);
      for (const environment of ['prod', 'stage'] as const) {
        if (!random.chance(0.35)) continue;
        const where = { entity: 'rule', feature, environment } as const;
        chronicle.putPart(feature.createdAtMs, null, where, inventRule(random, feature.id));
      }
    });
    const retired = retiredIdeas[project.name];
    if (retired === undefined) continue;
    const feature = addOldFeature(chronicle, random, begin, project, retired);
    events.push((atMs) => {
      // What waits for a decision would have nothing to be applied to.
      for (const request of chronicle.openRequests()) {
        if (request.feature === feature)
          chronicle.reject(atMs, deciderOf(request), request, 'The flag goes today');
      }
      chronicle.deleteFeature(atMs, owner, feature);
    });
  }
  // In an order that mixes the projects.
  return events
    .map((event) => ({ event, place: random.next() }))
    .sort((a, b) => a.place - b.place)
    .map(({ event }) => event);
}

function addOldFeature(
  chronicle: Chronicle,
  random: Random,
  begin: number,
  project: DemoProject,
  idea: FlagIdea,
): Feature {
  const reached: Record<FlagIdea['rollout'], readonly EnvironmentKey[]> = {
    off: [],
    dev: ['dev'],
    stage: ['dev', 'stage'],
    prod: ['dev', 'stage', 'prod'],
  };
  return chronicle.addFeature(begin - random.between(5, 300) * dayMs, project, idea, reached[idea.rollout]);
}

function act(
  chronicle: Chronicle,
  random: Random,
  atMs: number,
  { mayDecide }: { readonly mayDecide: boolean },
): void {
  const feature = random.pick([...chronicle.features.values()]);
  const member = memberOf[feature.project.name] ?? owner;
  const environment = random.chance(0.55) ? 'dev' : 'stage';
  const dice = random.next();
  const open = chronicle.openRequests().length;
  if (mayDecide && (open >= openRequests.most || (open > 0 && dice < 0.18))) decide(chronicle, random, atMs);
  else if (dice < 0.33 && open < openRequests.most) ask(chronicle, random, atMs);
  else if (dice < 0.66) {
    const { enabled } = feature.params[environment];
    const username = random.chance(0.65) ? member : random.chance(0.8) ? owner : null;
    chronicle.setParams(atMs, username, feature, environment, { enabled: !enabled });
  } else if (dice < 0.78) editValue(chronicle, random, atMs, feature, environment);
  else if (dice < 0.91) editPart(chronicle, random, atMs, feature, 'rule');
  else if (dice < 0.97) editPart(chronicle, random, atMs, feature, 'feature_schedule');
  else chronicle.describe(atMs, owner, feature, betterDescription(feature));
}

function betterDescription({ idea, project, description }: Feature): string {
  return description === idea.description ? `${idea.description} (${project.name} team)` : idea.description;
}

function otherValue(random: Random, feature: Feature, environment: EnvironmentKey): string | null {
  const others = feature.idea.values.filter((value) => value !== feature.params[environment].defaultValue);
  return others.length === 0 ? null : random.pick(others);
}

function editValue(
  chronicle: Chronicle,
  random: Random,
  atMs: number,
  feature: Feature,
  environment: EnvironmentKey,
): void {
  const value = otherValue(random, feature, environment);
  const { enabled } = feature.params[environment];
  const change = value === null ? { enabled: !enabled } : { default_value: value };
  chronicle.setParams(atMs, owner, feature, environment, change);
}

/** Changes or drops a rule or schedule in dev or stage, or makes one. */
function editPart(
  chronicle: Chronicle,
  random: Random,
  atMs: number,
  feature: Feature,
  entity: Part['entity'],
): void {
  const username = random.chance(0.9) ? owner : administrator;
  const parts = [...chronicle.parts.values()].filter(
    (one) =>
      one.entity === entity && one.environment !== 'prod' && (one.feature === feature || random.chance(0.5)),
  );
  const fresh = (id: string): State =>
    entity === 'rule' ? inventRule(random, id) : inventSchedule(random, id, atMs);
  if (parts.length === 0 || random.chance(0.4)) {
    const environment = random.chance(0.55) ? 'dev' : 'stage';
    if (!parts.some((one) => one.feature === feature && one.environment === environment)) {
      chronicle.putPart(atMs, username, { entity, feature, environment }, fresh(feature.id));
      return;
    }
  }
  const part = random.pick(parts);
  if (random.chance(0.5)) {
    const changed = reinvent(part.state, () => fresh(part.feature.id));
    chronicle.putPart(atMs, username, part, changed);
  } else chronicle.dropPart(atMs, username, part);
}

/** Asks for a change in prod, which nobody makes alone. */
function ask(chronicle: Chronicle, random: Random, atMs: number): void {
  const busy = new Set(chronicle.openRequests().map((request) => request.feature));
  const feature = random.pick([...chronicle.features.values()].filter((one) => !busy.has(one)));
  const reason = random.pick(requestReasons);
  const value = otherValue(random, feature, 'prod');
  if (random.chance(0.2)) {
    chronicle.request(atMs, owner, feature, 'prod', { rule: inventRule(random, feature.id) }, reason);
  } else if (value !== null && random.chance(0.6)) {
    chronicle.request(atMs, owner, feature, 'prod', { params: { default_value: value } }, reason);
  } else {
    const member = memberOf[feature.project.name] ?? owner;
    const params = { enabled: !feature.params.prod.enabled };
    chronicle.request(atMs, member, feature, 'prod', { params }, reason);
  }
}

/** Approves, rejects or withdraws the oldest request; nobody decides on their own. */
function decide(chronicle: Chronicle, random: Random, atMs: number): void {
  const [request] = chronicle.openRequests();
  if (request === undefined) return;
  const decider = deciderOf(request);
  const dice = random.next();
  if (dice < 0.68) chronicle.approve(atMs, decider, request);
  else if (dice < 0.86) chronicle.reject(atMs, decider, request, random.pick(rejectionReasons));
  else request.status = 'cancelled';
}

function deciderOf({ requestedBy }: ChangeRequest): string {
  return requestedBy === owner ? administrator : owner;
}
