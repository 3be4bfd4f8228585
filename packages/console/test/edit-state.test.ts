import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  changedFields,
  type EditState,
  followState,
  keepMine,
  setField,
  startEdit,
  takeTheirs,
} from '../src/feature/edit-state.js';
import { feature } from './fixture/data.js';

/** A later state of the flag f1; `at` orders the states. */
function later(at: number, changes: object = {}): ReturnType<typeof feature> {
  const updatedAt = `2026-11-29T10:00:0${at}.000000Z`;
  return feature('f1', { version: `v${at}`, updated_at: updatedAt, ...changes });
}

const blocked = ({ concurrent }: EditState): boolean => concurrent.some(({ conflict }) => conflict);

describe('an edit', () => {
  it('without changes follows the changes of others and explains nothing', () => {
    const edit = followState(startEdit(later(1)), later(2, { name: 'Renamed', enabled: true }), 'bob');
    expect(edit).toMatchObject({ mine: { name: 'Renamed', enabled: true }, version: 'v2', concurrent: [] });
    expect(changedFields(edit)).toEqual({});
  });

  it('keeps changed fields, and explains which untouched fields have followed', () => {
    const mine = setField(startEdit(later(1)), 'description', 'mine');
    const edit = followState(mine, later(2, { name: 'Renamed' }), 'bob');
    expect(edit.mine).toMatchObject({ name: 'Renamed', description: 'mine' });
    expect(edit.concurrent).toEqual([
      { field: 'name', before: 'Flag f1', theirs: 'Renamed', by: 'bob', conflict: false },
    ]);
    expect(blocked(edit)).toBe(false);
    expect(edit.arrived).toEqual({ fields: ['name'], by: 'bob', version: 'v2' });
    expect(changedFields(edit)).toEqual({ description: 'mine' });
  });

  it('is blocked by a conflict until the user has chosen a value', () => {
    const mine = setField(startEdit(later(1)), 'description', 'mine');
    const edit = followState(mine, later(2, { description: 'theirs' }), 'bob');
    expect(blocked(edit)).toBe(true);
    expect(changedFields(keepMine(edit, 'description'))).toEqual({ description: 'mine' });
    expect(blocked(keepMine(edit, 'description'))).toBe(false);
    expect(changedFields(takeTheirs(edit, 'description'))).toEqual({});
    expect(blocked(takeTheirs(edit, 'description'))).toBe(false);
  });

  it('has no conflict if both enter the same value', () => {
    const edit = followState(
      setField(startEdit(later(1)), 'description', 'same'),
      later(2, { description: 'same' }),
      'bob',
    );
    expect([edit.concurrent, changedFields(edit)]).toEqual([[], {}]);
  });

  it('drops a conflict when the others come round to the value of the user, or back to the old one', () => {
    const mine = setField(startEdit(later(1)), 'description', 'mine');
    const conflict = followState(mine, later(2, { description: 'theirs' }), 'bob');
    const agreed = followState(conflict, later(3, { description: 'mine' }), 'bob');
    expect([agreed.concurrent, changedFields(agreed)]).toEqual([[], {}]);
    const undone = followState(conflict, later(3), 'bob');
    expect(undone.concurrent).toMatchObject([{ before: 'theirs', theirs: 'Made for a test' }]);
  });

  it('drops a conflict when the user enters the value of the others', () => {
    const mine = setField(startEdit(later(1)), 'description', 'mine');
    const conflict = followState(mine, later(2, { description: 'theirs' }), 'bob');
    expect(blocked(setField(conflict, 'description', 'their'))).toBe(true);
    const agreed = setField(conflict, 'description', 'theirs');
    expect([blocked(agreed), changedFields(agreed)]).toEqual([false, {}]);
  });

  it('never loses or invents a value, whatever both sides do', () => {
    const value = fc.constantFrom('a', 'b', 'c');
    const step = fc.oneof(
      fc.record({ by: fc.constant('me'), field: fc.constantFrom('name', 'default_value'), value }),
      fc.record({ by: fc.constant('others'), field: fc.constantFrom('name', 'default_value'), value }),
      fc.record({
        by: fc.constantFrom('keep', 'take'),
        field: fc.constantFrom('name', 'default_value'),
        value,
      }),
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 12 }), (steps) => {
        let server = feature('f1', { name: 'a', default_value: 'a' });
        let edit = startEdit(server);
        for (const [index, { by, field: name, value: next }] of steps.entries()) {
          const field: 'name' | 'default_value' = name;
          if (by === 'me') edit = setField(edit, field, next);
          else if (by === 'others') {
            server = { ...server, [field]: next, version: `v${index + 2}` };
            edit = followState(edit, server, 'bob');
          } else edit = by === 'keep' ? keepMine(edit, field) : takeTheirs(edit, field);
          // What saving would write on top of the server's state is what the user sees.
          expect({ ...server, ...changedFields(edit) }).toMatchObject(edit.mine);
          // A conflict offers two values that differ, and theirs is the current one.
          for (const change of edit.concurrent.filter(({ conflict }) => conflict)) {
            expect(change.theirs).toBe(server[change.field]);
            expect(change.theirs).not.toBe(edit.mine[change.field]);
          }
        }
      }),
    );
  });
});
