import { createPlural } from './plural.js';

const plural = createPlural('en');

/** The messages about requests in English. */
export const enApprovals = {
  pendingRequest: 'Pending request',
  requestedBy: (by: string) => `Requested by ${by}`,
  cardLabel: (by: string, name: string | null) =>
    `${by} requested a change${name === null ? '' : ` to ${name}`}`,
  place: 'Filter by project',
  count: (count: number, place: string | null) =>
    count === 0
      ? 'All caught up'
      : `${plural.number(count)} pending in ${place ?? 'all projects and environments'}`,
  countLabel: (count: number) => `${plural.number(count)} need your review`,
  empty: 'No pending requests',
  emptyHint: 'Requests to change guarded environments appear here immediately.',
  deletedFeature: 'Deleted flag',
  verbs: { insert: 'Create', update: 'Change', delete: 'Delete' },
  approve: 'Approve',
  reject: 'Reject',
  rejectTitle: 'Reject request',
  rejectHint: (by: string) => `${by} will see the reason.`,
  cancel: 'Cancel request',
  ownRequest: 'You can’t approve your own request',
  managersOnly: 'Only managers can approve',
  elsewhere: 'Your password can’t be checked here. Decide in Togglr.',
  approveTitle: 'Approve request',
  passwordHint: 'Enter your password: the change is made in your name.',
  requesterInactive: 'Inactive user',
  decided: {
    approved: (by: string | null) => (by === null ? 'Approved' : `Approved by ${by}`),
    rejected: (by: string | null) => (by === null ? 'Rejected' : `Rejected by ${by}`),
    cancelled: (by: string | null) => (by === null ? 'Cancelled' : `Cancelled by ${by}`),
    gone: () => 'No longer pending',
  },
  alreadyDecided: (decision: string) => `Too late. ${decision} just now.`,
  done: { approve: 'Approved', reject: 'Rejected', cancel: 'Request cancelled' },
  reason: 'Reason',
  request: 'Request approval',
  requestTitle: (name: string) => `Request change to ${name}`,
  reasonForEnvironment: (env: string) =>
    `${env} is guarded, so someone else has to approve. Why is this change needed?`,
  reasonForFlag: 'This flag is guarded, so someone else has to approve. Why is this change needed?',
  filter: 'Filter requests',
  all: 'All',
  mine: 'Mine',
  needsReview: 'Needs my review',
  noMatch: 'No matching requests',
  noMatchHint: 'Try another filter.',
  decidedFilter: 'Decided',
  noDecided: 'No decided requests',
  older: 'Show older requests',
  showNew: (count: number) => `${plural.number(count)} new · Show`,
  requestPage: 'Request',
  back: 'All requests',
  copyLink: 'Copy link',
  copied: 'Link copied',
  notFound: 'Request not found',
  notFoundHint: 'The address is wrong, or you can’t view its project.',
  bell: (count: number) => (count === 0 ? 'For you' : `For you: ${plural.number(count)} new`),
  concerns: 'For you',
  noConcerns: 'Decisions on your requests and requests to review appear here.',
  moreConcerns: 'Show more',
  notifyMe: 'Browser notifications',
  changed: 'changed',
  whenRequested: 'When requested:',
  now: 'Now:',
  after: 'After:',
  stale: 'This has changed since you looked. Review it again.',
  outdated: 'Changed since you looked',
  showNow: 'Show changes',
  confirm: (name: string, project: string, env: string) =>
    `${name} changes in ${env} (${project}) as soon as you approve.`,
  justRequested: (by: string) =>
    `${by} just requested a change to this flag. Yours can follow once it’s decided.`,
  alreadyThere: 'Someone else just made this change.',
  conflictWith: (fields: string) =>
    `Changed since the request: ${fields}. Reject it, or ask its author to cancel it and request again.`,
};
