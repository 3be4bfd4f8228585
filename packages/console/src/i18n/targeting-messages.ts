import { createPlural } from './plural.js';

const plural = createPlural('en');

/** The messages about rules, variants, schedules and tags in English. */
export const enTargeting = {
  title: 'Targeting',
  readOnly:
    'Edited where your flags are managed: that console checks them against each other. Changes there appear here immediately.',
  nothing: 'No rules, variants or schedules: everyone gets the default value while the flag is on.',
  gets: 'Gets',
  defaultValue: 'the default value',
  if: 'if',
  for: 'for',
  segment: (name: string) => `in segment ${name}`,
  joins: { and: 'and', or: 'or', and_not: 'and not' },
  percentBy: (percent: string, attribute: string) => `${percent} % of users by ${attribute}`,
  priority: (priority: number) => `priority ${plural.number(priority)}`,
  showAll: (count: number) => `Show all ${plural.number(count)}`,
  first: (shown: number, count: number) => `The first ${plural.number(shown)} of ${plural.number(count)}`,
  variants: 'Variants',
  share: (percent: number) => `${plural.number(percent)} % of users`,
  splitBy: (key: string) => `by ${key}`,
  everyoneElse: 'Everyone else',
  always: 'always',
  from: (start: string) => `from ${start}`,
  until: (end: string) => `until ${end}`,
  daily: (time: string) => `every day at ${time}`,
  weekly: (days: string, time: string) => `${days} at ${time}`,
  monthly: (day: number, time: string) => `on day ${day} of each month at ${time}`,
  lasts: (duration: string) => `for ${duration}`,
  ended: 'ended',
  invalid: 'This schedule can’t be evaluated, so it never acts.',
  switchesOn: (when: string, time: string) => `Switches on ${when} (${time})`,
  switchesOff: (when: string, time: string) => `Switches off ${when} (${time})`,
  onNow: 'On now, by schedule',
  offNow: 'Off now, by schedule',
  switchedOff: 'The flag is switched off, so schedules have no effect.',
};

/** Operators of conditions. */
export const enOperators = {
  eq: 'is',
  neq: 'is not',
  in: 'is one of',
  not_in: 'is none of',
  contains: 'contains',
  not_contains: 'does not contain',
  starts_with: 'starts with',
  ends_with: 'ends with',
  gt: '>',
  gte: '≥',
  lt: '<',
  lte: '≤',
  regex: 'matches',
};
