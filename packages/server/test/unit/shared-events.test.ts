import { expect, it } from 'vitest';
import { type EventGroup, SharedEvents } from '../../src/events/dialect.js';
import type { FlagEvent } from '../../src/events/event.js';

function event(projectId: string): FlagEvent {
  return {
    id: projectId,
    xid: 1n,
    source: 'pending',
    rowId: projectId,
    projectId,
    environmentId: '1',
    environmentKey: 'prod',
    entity: 'feature',
    entityId: projectId,
    action: 'pending',
    createdAt: '2026-01-01T00:00:00.000000Z',
    featureId: null,
    pendingChangeId: projectId,
    actor: null,
    committedAt: null,
    featureJson: null,
    featureUnreadable: false,
    pendingChangeJson: null,
    pendingChangeUnreadable: false,
  };
}

function rounds(projects: number, scopes: readonly (readonly string[])[]): number[] {
  const shared = new SharedEvents(
    Array.from({ length: projects }, (_, index) => event(`${index}`)),
    0,
  );
  let encoded = 0;
  const encode = ({ events }: EventGroup): Buffer => {
    encoded += events.length;
    return Buffer.from(events.map(({ id }) => id).join());
  };
  const dialect = { name: 'test', encode };
  return [1, 2].map(() => {
    encoded = 0;
    for (const scope of scopes) {
      const bytes = shared.only(({ projectId }) => scope.includes(projectId)).encoded(dialect);
      expect(bytes.toString()).toBe(scope.join());
    }
    return encoded;
  });
}

it('encodes events once for all users who see the same ones', () => {
  expect(
    rounds(3, [
      ['0', '1', '2'],
      ['0', '2'],
      ['0', '2'],
      ['1', '2'],
    ]),
  ).toStrictEqual([7, 0]);
});

it('keeps the bytes of few scopes only, because thousands of users can have different ones', () => {
  // Each two of 30 projects: 435 scopes of 870 events.
  const ids = Array.from({ length: 30 }, (_, index) => `${index}`);
  const scopes = ids.flatMap((one, index) => ids.slice(index + 1).map((other) => [one, other]));
  expect(rounds(30, scopes)).toStrictEqual([870, 870 - 8 * 30]);
});
