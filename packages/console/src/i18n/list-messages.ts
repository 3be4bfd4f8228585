import { createPlural } from './plural.js';

const plural = createPlural('en');
const flags = (count: number): string => plural(count, { one: 'flag', other: 'flags' });
const unknownUser = 'an unknown user';

/** The messages of the list of flags in English. */
export const enList = {
  count: (shown: number, all: number) =>
    shown === all ? flags(all) : `${plural.number(shown)} of ${flags(all)}`,
  guardedHere: 'Changes need approval',
  search: 'Search by name, key or description',
  clearSearch: 'Clear search',
  filter: 'Filter by state',
  all: 'All',
  on: 'On',
  off: 'Off',
  pending: 'Pending',
  create: 'New flag',
  submitCreate: 'Create flag',
  flag: 'Flag',
  state: 'State',
  value: 'Value',
  lastChange: 'Last change',
  tags: 'Tags',
  filters: 'Filters',
  filtersOn: (count: number) => `Filters: ${plural.number(count)}`,
  differs: 'Differs between environments',
  columns: 'Columns',
  otherEnvironments: 'Other environments',
  compact: 'Compact rows',
  sort: 'sort',
  switchLabel: (name: string) => `Enable ${name}`,
  turnOn: (name: string) => `Turn on ${name}`,
  turnOff: (name: string) => `Turn off ${name}`,
  happened: {
    created: (by: string | null) => `created by ${by ?? unknownUser}`,
    updated: (by: string | null) => `changed by ${by ?? unknownUser}`,
    deleted: (by: string | null) => `deleted by ${by ?? unknownUser}`,
    pending: (by: string | null) => `requested by ${by ?? unknownUser}`,
    approved: (by: string | null) => `approved by ${by ?? unknownUser}`,
    rejected: (by: string | null) => `rejected by ${by ?? unknownUser}`,
    cancelled: (by: string | null) => `cancelled by ${by ?? unknownUser}`,
    request_updated: (by: string | null) => `request edited by ${by ?? unknownUser}`,
  },
  pendingBy: (by: string) => `Pending · ${by}`,
  requested: 'Sent for approval',
  empty: 'No flags yet',
  emptyHint: 'New flags appear here as soon as they’re created.',
  noMatch: 'No matching flags',
  noMatchHint: 'Try another search or filter.',
  showAll: 'Show all flags',
  pendingElsewhere: (count: number) => `${plural.number(count)} pending in other environments`,
  orderFrozen: 'Order paused while you hover',
};
