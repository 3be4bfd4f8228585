import type { EventMessage } from '@flagcast/client';
import { maxChannels } from '@flagcast/protocol';
import { describe, expect, it } from 'vitest';
import {
  type Decisions,
  decisionsAfter,
  environmentsWithApprovals,
  sortRequests,
} from '../src/approvals/decisions.js';
import { environment, openChange } from './fixture/data.js';

const none: Decisions = new Map();

function step(id: string, action: string, actor: string | null = 'alice'): EventMessage {
  return { id, action, actor, pending_change_id: 'r1' } as EventMessage;
}

describe('decisionsAfter', () => {
  it.each(['approved', 'rejected', 'cancelled'])('adds the decision of a request that was %s', (action) => {
    expect(decisionsAfter(none, step('10', action)).get('r1')).toEqual({
      status: action,
      by: 'alice',
      eventId: '10',
    });
  });

  it('removes the decision of a request that was opened again', () => {
    const decided = decisionsAfter(none, step('10', 'rejected'));
    expect(decisionsAfter(decided, step('11', 'pending')).size).toBe(0);
    expect(decisionsAfter(decided, step('11', 'updated')).size).toBe(0);
  });

  it('compares the ids of events as numbers, so that a late event does not reopen a request', () => {
    const decided = decisionsAfter(none, step('10', 'approved'));
    expect(decisionsAfter(decided, step('9', 'updated'))).toBe(decided);
  });

  it('ignores events that are not about a request', () => {
    expect(decisionsAfter(none, { ...step('10', 'updated'), pending_change_id: null })).toBe(none);
  });
});

describe('sortRequests', () => {
  const [old, recent] = [openChange('old'), openChange('new', { created_at: '2026-11-29T11:00:00.000000Z' })];

  it('lists the newest first, and keeps decided ones', () => {
    const decisions = decisionsAfter(none, { ...step('1', 'approved'), pending_change_id: 'old' });
    const { open, all } = sortRequests([old, recent], [old, recent], decisions);
    expect(open.map(({ id }) => id)).toEqual(['new']);
    expect(all.map(({ id }) => id)).toEqual(['new', 'old']);
  });

  it('drops a request that is no longer listed and was not seen to be decided', () => {
    expect(sortRequests([recent], [old, recent], none).all).toEqual([recent]);
  });

  it('does not reorder requests of the same time', () => {
    const same = [openChange('a'), openChange('b'), openChange('c')];
    expect(sortRequests(same, same, none).all).toEqual(same);
  });
});

describe('environmentsWithApprovals', () => {
  const here = { projectId: 'shop', env: 'dev' };

  it('names the environment on the screen, the guarded ones, and those with requests', () => {
    const projects = [
      { id: 'shop', name: 'Shop', environments: [environment('dev'), environment('prod', true)] },
      { id: 'other', name: 'Other', environments: [environment('dev'), environment('qa')] },
    ];
    const requests = [openChange('r1', { project_id: 'other', environment: 'qa' })];
    expect(environmentsWithApprovals(here, projects, requests)).toEqual([
      here,
      { projectId: 'shop', env: 'prod' },
      { projectId: 'other', env: 'qa' },
    ]);
  });

  it('keeps keys with spaces and slashes', () => {
    const environments = [environment('dev'), environment('eu west/prod', true)];
    const [, other] = environmentsWithApprovals(here, [{ id: 'shop', name: 'Shop', environments }], []);
    expect(other).toEqual({ projectId: 'shop', env: 'eu west/prod' });
  });

  it('leaves a channel of the connection for the page', () => {
    const environments = Array.from({ length: 100 }, (_, index) => environment(`e${index}`, true));
    const names = environmentsWithApprovals(here, [{ id: 'shop', name: 'Shop', environments }], []);
    expect(names).toHaveLength(maxChannels - 1);
    expect(names[0]).toEqual(here);
  });
});
