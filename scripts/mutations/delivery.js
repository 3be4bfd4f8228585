/** @import { Mutation } from './table.js' */

const server = 'packages/server/src/';
const test = 'packages/server/test/';

/** @type {readonly Mutation[]} */
export const ofDelivery = [
  {
    name: 'in-flight-forgotten',
    guarantee: 'G1',
    broken: 'After a read the transactions that were in flight count as delivered.',
    edits: [
      {
        file: `${server}reader/log-progress.ts`,
        find: '        ...snapshot.xids.filter((xid) => xid < end),\n',
        replace: '        ...snapshot.xids.filter((xid) => xid < end && end < 0n),\n',
      },
    ],
    tests: [`${test}log-reader.test.ts`],
  },
  {
    name: 'page-taken-for-all',
    guarantee: 'G1',
    broken: 'After a full page everything that the snapshot shows counts as delivered.',
    edits: [
      {
        file: `${server}reader/log-progress.ts`,
        find: 'const isFull = page.length >= limit;',
        replace: 'const isFull = page.length > limit;',
      },
    ],
    tests: [`${test}log-pages.test.ts`],
  },
  {
    name: 'namesakes-after-a-crash',
    guarantee: 'G1',
    broken: 'After a reconnect it is not checked whether what was delivered is still there.',
    edits: [
      {
        file: `${server}reader/log-progress.ts`,
        find: "        if (fingerprints.size > 0) return 'lost-commits';\n",
        replace: '',
      },
    ],
    tests: [`${test}log-crash.test.ts`],
  },
  {
    name: 'ids-that-a-crash-took-back',
    guarantee: 'G1',
    broken: 'Coverages that waited for the log to reach the disk still wait after the connection was lost.',
    edits: [
      {
        file: `${server}reader/durable-coverage.ts`,
        find: '  forgetWaiting(): void {\n    this.#waiting = [];\n',
        replace: '  forgetWaiting(): void {\n',
      },
    ],
    tests: [`${test}log-crash.test.ts`, `${test}log-progress.test.ts`],
  },
  {
    name: 'ids-before-they-are-durable',
    guarantee: 'G1',
    broken: 'Transaction ids are trusted before the log is on disk, and a crash hands them out again.',
    edits: [
      {
        file: `${server}reader/durable-coverage.ts`,
        find: '(each.insertLsn ?? 0n) > flushLsn);',
        replace: '(each.insertLsn ?? 0n) > flushLsn + 2n ** 62n);',
      },
    ],
    tests: [`${test}log-crash.test.ts`, `${test}log-progress.test.ts`],
  },
  {
    name: 'server-repeats',
    guarantee: 'G4',
    broken: 'After a reconnect the reader delivers again what it had delivered before.',
    edits: [
      {
        file: `${server}reader/log-progress.ts`,
        find: '    return this.#doubtful.get(row.xid)?.delete(fingerprint) !== true;',
        replace: '    return this.#doubtful.get(row.xid)?.delete(fingerprint) !== true || row.seq > 0n;',
      },
    ],
    tests: [`${test}log-progress.test.ts`, `${test}log-pages.test.ts`],
  },
  {
    name: 'poll-switched-off',
    guarantee: 'G1',
    broken: 'Without a hint nothing is read.',
    edits: [
      {
        file: `${server}reader/read-schedule.ts`,
        find: 'return Math.min(this.#pollDueAtMs, hinted, this.#readDueAtMs ?? Infinity);',
        replace: 'return Math.min(hinted, this.#readDueAtMs ?? (this.#lastReadAtMs > 0 ? Infinity : 0));',
      },
    ],
    tests: [`${test}http.test.ts`],
  },
  {
    name: 'made-up-event',
    guarantee: 'G2',
    broken: 'A read that finds nothing brings an event all the same, which was never committed.',
    edits: [
      {
        file: `${server}reader/log-statements.ts`,
        find: '  const seq = column(0);\n',
        replace: "  const seq = column(0) ?? '0';\n",
      },
    ],
    tests: [`${test}log-reader.test.ts`],
  },
  {
    name: 'old-events-skipped',
    guarantee: 'G11',
    broken: 'Events whose created_at is an hour old are not read.',
    edits: [
      {
        file: `${server}reader/log-statements.ts`,
        find: 'WHERE l.xid BETWEEN range.low AND range.high\n      ORDER BY l.xid, l.seq LIMIT',
        replace:
          "WHERE l.xid BETWEEN range.low AND range.high AND l.created_at > now() - interval '1 hour'\n      ORDER BY l.xid, l.seq LIMIT",
      },
    ],
    tests: [`${test}v1-events.test.ts`],
  },
  {
    name: 'failures-hidden',
    guarantee: 'G12',
    broken: 'A read that fails does not make the server stale.',
    edits: [
      {
        file: `${server}operations/freshness.ts`,
        find: '      if (attempt <= failuresAllowed) return;\n',
        replace: '      if (attempt > -failuresAllowed) return;\n',
      },
    ],
    tests: [`${test}freshness.test.ts`],
  },
  {
    name: 'triggers-unwatched',
    guarantee: 'G12',
    broken: 'The reader does not look at the triggers.',
    edits: [
      {
        file: `${server}reader/reader.ts`,
        find: "if (trigger === 'poll' && session.source.hasHostTriggers) {",
        replace: "if (trigger === 'poll' && session.source.name === '') {",
      },
    ],
    tests: [`${test}freshness.test.ts`],
  },
  {
    name: 'names-from-memory',
    guarantee: 'G13',
    broken: 'A channel that was renamed or has ended is opened from a look-up made before.',
    edits: [
      {
        file: `${server}flagcast.ts`,
        find: "  if (authority instanceof Access) lifecycle.on('channels:changed', () => authority.forgetChannels());\n",
        replace: '',
      },
    ],
    tests: [`${test}channel-changes.test.ts`],
  },
  {
    name: 'ends-ignored',
    guarantee: 'G13',
    broken: 'A channel whose environment was deleted stays open.',
    edits: [
      {
        file: `${server}broadcast/broadcaster.ts`,
        find: '      this.#end(channelKey(projectId, control.environmentId), type);\n',
        replace: '',
      },
    ],
    tests: [`${test}channel-changes.test.ts`],
  },
  {
    name: 'rights-in-a-while',
    guarantee: 'G14',
    broken: 'Rights that were taken away are noticed with the periodic check only.',
    edits: [
      {
        file: `${server}door/sweeper.ts`,
        find: "    lifecycle.on('rights:changed', () => void this.#recheck());\n",
        replace: '',
      },
    ],
    tests: [`${test}channel-changes.test.ts`],
  },
  {
    name: 'ring-beyond-its-reach',
    guarantee: 'G5',
    broken: 'The ring answers for what came before it.',
    edits: [
      {
        file: `${server}broadcast/ring.ts`,
        find: 'if (position.xmax <= this.#startXmax) return null;',
        replace: 'if (position.xmax + 2n ** 62n <= this.#startXmax) return null;',
      },
    ],
    tests: [`${test}resume.test.ts`],
  },
  {
    name: 'cursor-of-one-server',
    guarantee: 'G7',
    broken: 'A cursor is valid only at the server that made it.',
    edits: [
      {
        file: `${server}reader/reading-session.ts`,
        find: '.update(JSON.stringify([history.database,',
        replace: '.update(JSON.stringify([performance.now(), history.database,',
      },
    ],
    tests: [`${test}resume.test.ts`],
  },
  {
    name: 'cursor-that-harms',
    guarantee: 'G10',
    broken: 'A cursor that was made up reaches the database with a number that it does not understand.',
    edits: [
      {
        file: `${server}events/position.ts`,
        find: 'if (xmax > maxId || before > xmax',
        replace: 'if (before > xmax',
      },
    ],
    tests: [`${test}position.test.ts`],
  },
  {
    name: 'snapshot-knows-nothing',
    guarantee: 'G6',
    broken: "A snapshot's cursor does not leave out what the snapshot shows already.",
    edits: [
      {
        file: `${server}history/snapshot.ts`,
        find: '    return { ...coverage, history: from.history };',
        replace: '    return { ...coverage, xmin: 3n, xmax: 3n, xids: [], history: from.history };',
      },
    ],
    tests: [`${test}snapshot.test.ts`],
  },
  {
    name: 'cursor-before-its-events',
    guarantee: 'G5',
    broken: 'A connection that does not read counts as having what it was not sent.',
    edits: [
      {
        file: `${server}connection/subscription.ts`,
        find: '        this.#behindSinceMs = performance.now();\n      }\n      return;\n    }\n    const bytes',
        replace:
          '        this.#behindSinceMs = performance.now();\n      }\n      this.#after = run.last;\n      this.#position = run.position;\n      return;\n    }\n    const bytes',
      },
    ],
    tests: [`${test}slow-peer.test.ts`],
  },
  {
    name: 'news-before-the-beginning',
    guarantee: 'G1',
    broken: 'Plain clients are let in before the first read of the database.',
    edits: [
      {
        file: `${server}door/gateway.ts`,
        find: '      const isReading = await broadcaster.begun();\n      if (peers',
        replace: '      const isReading = visitor !== null || (await broadcaster.begun());\n      if (peers',
      },
    ],
    tests: [`${test}beginning.test.ts`],
  },
  {
    name: 'listen-lost-unnoticed',
    broken: 'That the connection of LISTEN has ended is noticed by nobody.',
    edits: [
      {
        file: `${server}reader/listener.ts`,
        find: '      lost = true;\n      this.#interrupt?.();\n',
        replace: '      lost = true;\n',
      },
    ],
    tests: [`${test}wake.test.ts`],
  },
  {
    name: 'history-loss-hidden',
    guarantee: 'G5',
    broken: 'A cursor of another history is gone on from, without a resync.',
    edits: [
      {
        file: `${server}connection/session.ts`,
        find: 'if (now !== null && now.history !== position.history) {',
        replace: "if (now !== null && now.history === '') {",
      },
    ],
    tests: [`${test}resume.test.ts`],
  },
  {
    name: 'wrong-channel',
    guarantee: 'G3',
    broken: 'Events go to all environments of their project.',
    edits: [
      {
        file: `${server}events/event.ts`,
        find: 'encodeURIComponent)}/${environmentId}`',
        replace: 'encodeURIComponent)}/${environmentId.slice(0, 0)}`',
      },
    ],
    tests: [`${test}isolation.test.ts`],
  },
  {
    name: 'heartbeat-ahead',
    guarantee: 'G5',
    broken: 'A heartbeat tells a cursor before the events up to it have been sent.',
    edits: [
      {
        file: `${server}connection/session.ts`,
        find: '    if (!this.#channels.every(({ subscription }) => subscription.flush())) return;\n',
        replace: '',
      },
    ],
    tests: [`${test}fan-out.test.ts`],
  },
  {
    name: 'slow-peer-buffered',
    guarantee: 'G8',
    broken: 'A peer that does not read is buffered for without a bound.',
    edits: [
      {
        file: `${server}connection/peer.ts`,
        find: 'this.#isFilling && this.bufferedAmount > this.#highWaterBytes;',
        replace: 'this.#isFilling && this.bufferedAmount > this.#highWaterBytes * 1e6;',
      },
    ],
    tests: [`${test}slow-peer.test.ts`],
  },
  {
    name: 'client-begins-before-its-snapshot',
    broken: 'The client subscribes before it has a snapshot, from no cursor.',
    edits: [
      {
        file: 'packages/client/src/channel.ts',
        find: "if (cursor && capability === 'subscribe' && !isSubscribed) {",
        replace: "if (capability === 'subscribe' && !isSubscribed) {",
      },
      {
        file: 'packages/client/src/channel.ts',
        find: "connection.send({ type: 'subscribe', ...params, cursor });",
        replace: "connection.send({ type: 'subscribe', ...params, ...(cursor ? { cursor } : {}) });",
      },
    ],
    tests: ['packages/client/test/client.test.ts'],
  },
  {
    name: 'client-repeats',
    guarantee: 'G4',
    broken: 'The client applies an event twice that comes twice.',
    edits: [
      {
        file: 'packages/client/src/store.ts',
        find: '      if (applied.has(event.id)) return;\n',
        replace: '',
      },
    ],
    tests: ['packages/client/test/store.test.ts'],
  },
  {
    name: 'client-keeps-its-cursor-on-resync',
    broken: 'The client that was told to begin anew goes on from its old cursor.',
    edits: [
      {
        file: 'packages/client/src/channel.ts',
        find: '        resetSubscription();\n        cursor = undefined;\n        scheduleReload();\n',
        replace: '        resetSubscription();\n',
      },
    ],
    tests: ['packages/client/test/client.test.ts'],
  },
];
