import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Position } from '../../server/src/events/position.js';
import { CommitRefusedError, EventLog } from '../src/event-log.js';
import { connectNats, type NatsSession } from '../src/nats-connection.js';
import { loggedSince } from '../src/logged-events.js';
import { encode } from '../src/messages.js';
import { hasNatsServer, startNats, type TestNats } from '../../../testing/testkit/nats-server.ts';

const text = (data: Uint8Array): string => Buffer.from(data).toString('utf8');

describe.skipIf(!hasNatsServer)('the log in NATS', () => {
  let nats: TestNats;
  let session: NatsSession;
  beforeAll(async () => {
    nats = await startNats();
    session = await connectNats(nats.url);
  });
  afterAll(async () => {
    await session.connection.close();
    await nats.remove();
  });

  it('refuses a commit of a leader that was replaced, and does not deliver it', async () => {
    const log = await EventLog.open(session, { id: 'replaced', retentionMs: 60_000 });
    const commits: string[] = [];
    log.onCommit(({ data }) => commits.push(text(data)));
    await log.flush();
    const first = await log.publishCommit(Buffer.from('one'), 'a 1', 0);
    const second = await log.publishCommit(Buffer.from('other'), 'b 1', first);
    const late = log.publishCommit(Buffer.from('late'), 'a 2', first);
    await expect(late).rejects.toBeInstanceOf(CommitRefusedError);
    const third = await log.publishCommit(Buffer.from('third'), 'b 2', second);
    await log.flush();
    expect(commits).toEqual(['one', 'other', 'third']);
    expect(await log.lastCommit()).toMatchObject({ sequence: third });
    expect((await log.commitFrom(first + 1))?.sequence).toBe(second);
  });

  it('stores a message that is published twice once', async () => {
    const log = await EventLog.open(session, { id: 'twice', retentionMs: 60_000 });
    const channel = 'a project/1';
    const once = await log.publishEvents(channel, Buffer.from('events'), 'a 1 events');
    expect(await log.publishEvents(channel, Buffer.from('events'), 'a 1 events')).toBe(once);
    const commit = await log.publishCommit(Buffer.from('commit'), 'a 1', 0);
    expect(await log.publishCommit(Buffer.from('commit'), 'a 1', 0)).toBe(commit);
    const messages = await log.eventsFrom(channel, 1, 10);
    expect(messages?.map(({ data }) => text(data))).toEqual(['events']);
    expect(await log.commitFrom(1)).toMatchObject({ sequence: commit });
  });

  it('answers no question about missed events while it lacks a commit that was delivered', async () => {
    const log = await EventLog.open(session, { id: 'behind', retentionMs: 60_000 });
    const commit = await publishCommitAt(log, 10n);
    expect(await loggedSince(log, 'a project/1', positionAt(11n), commit)).toEqual([]);
    expect(await loggedSince(log, 'a project/1', positionAt(11n), commit + 1)).toBeNull();
  });

  it('G5: answers no question about missed events if NATS deletes some of them meanwhile', async () => {
    const channel = 'a project/1';
    const log = await EventLog.open(session, { id: 'short', retentionMs: 60_000 });
    const commit = await publishCommitAt(log, 10n);
    const event = await log.publishEvents(channel, Buffer.from('[]'), 'a 2');
    const shrinking = Object.assign(Object.create(log) as EventLog, {
      lastCommit: log.lastCommit.bind(log),
      commitFrom: log.commitFrom.bind(log),
      message: log.message.bind(log),
      eventsFrom: async (...of: Parameters<EventLog['eventsFrom']>) => {
        await session.jetstream.streams.purge('flagcast_v1_short', { seq: event + 1 });
        return await log.eventsFrom(...of);
      },
    });
    expect(await loggedSince(shrinking, channel, positionAt(11n), commit)).toBeNull();
  });

  it('is not opened on a stream that Flagcast did not create', async () => {
    await session.jetstream.streams.add({ name: 'flagcast_v1_taken', subjects: ['taken'] });
    await expect(EventLog.open(session, { id: 'taken', retentionMs: 60_000 })).rejects.toThrow(
      'the NATS stream flagcast_v1_taken was not created by Flagcast',
    );
  });
});

function positionAt(xmax: bigint): Position {
  return { history: 'h', xmin: xmax, xmax, listed: 'open', xids: [] };
}

/** Stores the first commit of the log: a read in a snapshot of this xmax. */
async function publishCommitAt(log: EventLog, xmax: bigint): Promise<number> {
  const { history, ...coverage } = positionAt(xmax);
  const progress = {
    ...{ read: { coverage, durable: coverage, partial: [], durablePartial: [] }, position: coverage },
    ...{ xmax, isComplete: true, readBy: 'reader 1' },
  };
  const commit = {
    ...{ log: history, reader: 'reader', previous: 0, continues: false, unbrokenSince: 5n, progress },
    ...{ seenAtMs: Date.now(), controls: [], channels: [], answers: [] },
  };
  return await log.publishCommit(encode(commit), 'a 1', 0);
}
