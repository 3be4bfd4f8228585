import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { Connection } from '../../src/connections/connection.js';
import { Presence } from '../../src/connections/presence.js';
import { announce as announceTo, shown, TestConnection } from './presence-fixture.js';

let isBusy: boolean;
let corks: number;
let presence: Presence;

beforeEach(() => {
  vi.useFakeTimers();
  isBusy = false;
  corks = 0;
  presence = new Presence({
    cork: (work) => {
      corks += 1;
      work();
    },
    isBusy: () => isBusy,
    openTopic: null,
    onIgnored: () => expect.unreachable(),
  });
});
afterEach(() => void vi.useRealTimers());

function announce(connection: Connection, field: string | null = null, view = 'v', id = 'f'): boolean {
  return announceTo(presence, connection, { field, view, id });
}

function join(userId: string, field: string | null = null): TestConnection {
  const connection = new TestConnection(userId);
  announce(connection, field);
  return connection;
}

describe('presence', () => {
  it('is sent within 250 ms, and then at most once a second for any number of changes', () => {
    const ada = join('ada');
    const bob = join('bob', 'name');
    vi.advanceTimersByTime(250);
    expect(ada.messages).toStrictEqual([
      {
        type: 'presence',
        project_id: 'p',
        environment_id: '1',
        feature_id: 'f',
        users: [
          { user_id: 'bob', username: 'user bob', field: 'name' },
          { user_id: 'ada', username: 'user ada', field: null },
        ],
        count: 2,
      },
    ]);
    for (let time = 0; time < 40; time += 1) {
      announce(bob, `field_${time}`);
      vi.advanceTimersByTime(50);
    }
    expect(ada.frames).toHaveLength(3);
    vi.advanceTimersByTime(1_000);
    expect(ada.messages.map(shown).at(-1)).toStrictEqual(['bob:field_39', 'ada']);
  });

  it('shows a user with several views and connections once, with the field of any of them', () => {
    const ada = join('ada');
    const laptop = join('bob', 'name');
    announce(laptop, null, 'second tab');
    join('bob');
    vi.advanceTimersByTime(250);
    expect(ada.messages.map(shown)).toStrictEqual([['bob:name', 'ada']]);
    presence.leave(laptop, 'v');
    vi.advanceTimersByTime(1_000);
    expect(ada.messages.map(shown).at(-1)).toStrictEqual(['ada', 'bob']);
    // The state is the same, but a new view of the connection has not seen it.
    expect(laptop.frames).toHaveLength(2);
    announce(laptop, null, 'third tab');
    vi.advanceTimersByTime(1_000);
    expect([laptop.frames.length, ada.frames.length]).toStrictEqual([3, 2]);
  });

  it('forgets a view that is not renewed for 8.5 seconds, and stops its timer without views', () => {
    const ada = join('ada');
    const bob = join('bob');
    for (let time = 0; time < 2; time += 1) {
      vi.advanceTimersByTime(4_000);
      announce(ada);
    }
    expect(ada.messages.map(shown)).toStrictEqual([['ada', 'bob']]);
    vi.advanceTimersByTime(1_000);
    expect(ada.messages.map(shown).at(-1)).toStrictEqual(['ada']);
    expect(bob.frames).toHaveLength(1);
    expect(presence.size).toBe(1);
    vi.advanceTimersByTime(8_500);
    expect([presence.size, vi.getTimerCount()]).toStrictEqual([0, 0]);
  });

  it('is only sent to the views of the same subject, and moves with a view', () => {
    const ada = join('ada');
    const bob = join('bob');
    announce(bob, null, 'v', 'other');
    vi.advanceTimersByTime(250);
    expect([ada.messages.map(shown), bob.messages.map(shown)]).toStrictEqual([[['ada']], [['bob']]]);
    expect(bob.messages[0]).toMatchObject({ feature_id: 'other', count: 1 });
  });

  it('refuses more than 16 views of a connection', () => {
    const ada = new TestConnection('ada');
    for (let view = 0; view < 16; view += 1) expect(announce(ada, null, `${view}`)).toBe(true);
    expect([announce(ada, null, '16'), announce(ada, null, '15')]).toStrictEqual([false, true]);
    presence.leave(ada, '0');
    expect(announce(ada, null, '16')).toBe(true);
  });

  it('ends with the right to view the channel', () => {
    const ada = join('ada');
    presence.retain(ada, ({ environmentId }) => environmentId === '1');
    expect(presence.size).toBe(1);
    presence.retain(ada, () => false);
    expect(presence.size).toBe(0);
  });

  it('sends nothing to a full connection, and the newest state when it has drained', () => {
    const ada = join('ada');
    ada.full = true;
    vi.advanceTimersByTime(250);
    const bob = join('bob');
    vi.advanceTimersByTime(1_000);
    expect([ada.frames.length, bob.frames.length]).toStrictEqual([0, 1]);
    ada.full = false;
    presence.drained(ada);
    presence.drained(ada);
    expect(ada.messages.map(shown)).toStrictEqual([['ada', 'bob']]);
  });

  it('waits while events are being delivered', () => {
    const ada = join('ada');
    isBusy = true;
    vi.advanceTimersByTime(249);
    // An immediate runs again and again meanwhile.
    vi.advanceTimersByTime(1);
    expect(ada.frames).toHaveLength(0);
    isBusy = false;
    vi.runOnlyPendingTimers();
    expect(ada.frames).toHaveLength(1);
  });

  it('costs 5,000 people on one feature one encoding, small turns, and a message in 5 seconds', () => {
    const all = Array.from({ length: 5_000 }, (_, index) => join(String(index)));
    // The faked clock runs one immediate a millisecond.
    vi.advanceTimersByTime(400);
    const [first] = all;
    expect(first?.messages[0]).toMatchObject({ count: 5_000 });
    expect(first?.messages[0]?.users).toHaveLength(20);
    expect(new Set(all.map(({ frames }) => frames[0])).size).toBe(1);
    expect(corks).toBe(Math.ceil(5_000 / 64));
    for (let time = 0; time < 8; time += 1) {
      vi.advanceTimersByTime(1_000);
      all.forEach((connection, index) => announce(connection, index === 4_999 ? `field_${time}` : null));
    }
    expect(first?.frames).toHaveLength(2);
    expect(first?.messages[1]?.users[0]).toMatchObject({ user_id: '4999' });
  });
});
