import { describe, expect, it } from 'vitest';
import type { Batch, FlagEvent } from '../../src/events/event.js';
import { cursorOf, type Position } from '../../src/events/position.js';
import { ReplayBuffer } from '../../src/broadcast/replay-buffer.js';

describe('the replay buffer', () => {
  it('G5: shares no replay between positions whose cursors are equal because they list too many transactions', () => {
    const xids = Array.from({ length: 1_500 }, (_, index) => 1_000n + 2n * BigInt(index));
    const at = (xmax: bigint): Position => ({ history: 'h', xmin: 1_000n, xmax, listed: 'open', xids });
    const [earlier, later] = [at(4_000n), at(5_000n)];
    expect(cursorOf(earlier)).toBe(cursorOf(later));
    const buffer = new ReplayBuffer(10);
    buffer.append(batchAt(later, 4_500n));
    expect(buffer.since(later, 'project/1')?.events).toHaveLength(0);
    expect(buffer.since(earlier, 'project/1')?.events).toHaveLength(1);
  });
});

/** A batch with an event of this transaction. */
function batchAt(position: Position, xid: bigint): Batch {
  const event: FlagEvent = {
    ...{ id: '1', xid, source: 'audit', rowId: '1', projectId: 'project', environmentId: '1' },
    ...{ environmentKey: 'prod', entity: 'feature', entityId: 'feature', action: 'updated' },
    ...{ createdAt: '2026-01-01T00:00:00.000000Z', featureId: null, pendingChangeId: null, actor: null },
    ...{ committedAt: null, featureJson: null, featureUnreadable: false },
    ...{ pendingChangeJson: undefined, pendingChangeUnreadable: false },
  };
  return {
    ...{ events: [event], controls: [], seenAtMs: 0, beganAtMs: 0, snapshotXmax: position.xmax },
    ...{ isComplete: true, connection: 1, position },
    read: { coverage: position, durable: position, partial: [], durablePartial: [] },
  };
}
