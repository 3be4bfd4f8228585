/** @import { Mutation } from './table.js' */

const server = 'packages/server/src/';
const test = 'packages/server/test/';

/** @type {readonly Mutation[]} */
export const deliveryMutations = [
  {
    name: 'in-flight-ignored',
    guarantee: 'G1',
    broken: 'Transactions that were in flight during a read count as delivered.',
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
    name: 'full-page-covers-snapshot',
    guarantee: 'G1',
    broken: 'After a full page all transactions of the snapshot count as delivered.',
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
    name: 'reused-ids-unchecked',
    guarantee: 'G1',
    broken: 'After a reconnect the reader does not check whether delivered events still exist.',
    edits: [
      {
        file: `${server}reader/unflushed-rows.ts`,
        find: '      if (fingerprints.size > 0) return true;\n',
        replace: '',
      },
    ],
    tests: [`${test}log-crash.test.ts`],
  },
  {
    name: 'waiting-coverage-kept',
    guarantee: 'G1',
    broken: 'Coverages that wait for the WAL flush survive a lost connection.',
    edits: [
      {
        file: `${server}reader/durable-coverage.ts`,
        find: '  forgetWaiting(): void {\n    this.#waiting = [];\n',
        replace: '  forgetWaiting(): void {\n',
      },
    ],
    tests: [`${test}log-crash.test.ts`, `${test}unit/log-progress.test.ts`],
  },
  {
    name: 'undurable-ids-trusted',
    guarantee: 'G1',
    broken: 'Transaction ids are trusted before the WAL is flushed, so a crash can reuse them.',
    edits: [
      {
        file: `${server}reader/durable-coverage.ts`,
        find: '(each.insertLsn ?? 0n) > flushLsn);',
        replace: '(each.insertLsn ?? 0n) > flushLsn + 2n ** 62n);',
      },
    ],
    tests: [`${test}log-crash.test.ts`, `${test}unit/log-progress.test.ts`],
  },
  {
    name: 'reconnect-repeats',
    guarantee: 'G4',
    broken: 'After a reconnect the reader delivers events again.',
    edits: [
      {
        file: `${server}reader/log-progress.ts`,
        find: 'return !this.#unflushed.findAgain(row);',
        replace: 'return !this.#unflushed.findAgain(row) || row.seq > 0n;',
      },
    ],
    tests: [`${test}unit/log-progress.test.ts`, `${test}log-pages.test.ts`],
  },
  {
    name: 'poll-disabled',
    guarantee: 'G1',
    broken: 'Without a notification nothing is read.',
    edits: [
      {
        file: `${server}reader/read-schedule.ts`,
        find: 'return Math.min(this.#pollDueAtMs, afterWakeMs, this.#readDueAtMs ?? Infinity);',
        replace:
          'return Math.min(afterWakeMs, this.#readDueAtMs ?? (this.#lastReadAtMs > 0 ? Infinity : 0));',
      },
    ],
    tests: [`${test}http.test.ts`],
  },
  {
    name: 'invented-event',
    guarantee: 'G2',
    broken: 'An empty read returns an event that was never committed.',
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
    broken: 'Events with a created_at older than an hour are not read.',
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
    broken: 'A failed read does not make the server stale.',
    edits: [
      {
        file: `${server}reader/freshness.ts`,
        find: '      if (attempt <= failuresAllowed) return;\n',
        replace: '      if (attempt > -failuresAllowed) return;\n',
      },
    ],
    tests: [`${test}freshness.test.ts`],
  },
  {
    name: 'triggers-unchecked',
    guarantee: 'G12',
    broken: 'The reader does not check the triggers.',
    edits: [
      {
        file: `${server}reader/reader.ts`,
        find: "if (trigger === 'poll' && (await",
        replace: "if (trigger === 'poll' && session.source.name === '' && (await",
      },
    ],
    tests: [`${test}freshness.test.ts`],
  },
  {
    name: 'deleted-channel-open',
    guarantee: 'G13',
    broken: 'A channel stays open after its environment was deleted.',
    edits: [
      {
        file: `${server}broadcast/broadcaster.ts`,
        find: "    if (type === 'environment_deleted') this.#end(channel, type);\n    else {\n",
        replace: "    if (type === 'environment_renamed') {\n",
      },
    ],
    tests: [`${test}channel-changes.test.ts`],
  },
  {
    name: 'rights-change-ignored',
    guarantee: 'G14',
    broken: 'Revoked rights are noticed only by the periodic recheck.',
    edits: [
      {
        file: `${server}connections/connection-monitor.ts`,
        find: "    lifecycle.on('rights:changed', () => void this.#recheck());\n",
        replace: '',
      },
    ],
    tests: [`${test}channel-changes.test.ts`],
  },
  {
    name: 'replay-buffer-too-old',
    guarantee: 'G5',
    broken: 'The replay buffer answers for events older than its content.',
    edits: [
      {
        file: `${server}broadcast/replay-buffer.ts`,
        find: 'if (position.xmax <= this.#startXmax) return null;',
        replace: 'if (position.xmax + 2n ** 62n <= this.#startXmax) return null;',
      },
    ],
    tests: [`${test}resume.test.ts`],
  },
  {
    name: 'cursor-of-one-server',
    guarantee: 'G7',
    broken: 'A cursor is valid only on the server that issued it.',
    edits: [
      {
        file: `${server}reader/read-history.ts`,
        find: '.update(JSON.stringify(parts))',
        replace: '.update(JSON.stringify([performance.now(), ...parts]))',
      },
    ],
    tests: [`${test}resume.test.ts`],
  },
  {
    name: 'cursor-unvalidated',
    guarantee: 'G10',
    broken: 'An invented cursor reaches the database with a number that is out of range.',
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
    name: 'snapshot-cursor-empty',
    guarantee: 'G6',
    broken: "A snapshot's cursor does not exclude the events that the snapshot contains.",
    edits: [
      {
        file: `${server}replay/snapshot.ts`,
        find: '  return { ...coverage, history: readerPosition.history };',
        replace: '  return { ...coverage, xmin: 3n, xmax: 3n, xids: [], history: readerPosition.history };',
      },
    ],
    tests: [`${test}snapshot.test.ts`],
  },
  {
    name: 'cursor-before-its-events',
    guarantee: 'G5',
    broken: 'The cursor of a connection that does not read includes unsent events.',
    edits: [
      {
        file: `${server}connections/subscription.ts`,
        find: '        this.#behindSinceMs = performance.now();\n      }\n      return;\n    }\n    const bytes',
        replace:
          '        this.#behindSinceMs = performance.now();\n      }\n      this.#after = batch.last;\n      this.#position = batch.position;\n      return;\n    }\n    const bytes',
      },
    ],
    tests: [`${test}slow-connection.test.ts`],
  },
  {
    name: 'accepted-before-first-read',
    guarantee: 'G1',
    broken: 'Plain clients are accepted before the first read of the database.',
    edits: [
      {
        file: `${server}transport/web-socket-gateway.ts`,
        find: 'const isReading = await sources.broadcaster.begun();',
        replace: 'const isReading = client.principal !== null || (await sources.broadcaster.begun());',
      },
    ],
    tests: [`${test}start-position.test.ts`],
  },
  {
    name: 'listen-loss-unnoticed',
    broken: 'The end of the LISTEN connection is not noticed.',
    edits: [
      {
        file: `${server}reader/listener.ts`,
        find: "session.once('end', () => lost.abort(",
        replace: "session.once('never', () => lost.abort(",
      },
    ],
    tests: [`${test}wake.test.ts`],
  },
  {
    name: 'history-change-ignored',
    guarantee: 'G5',
    broken: 'A cursor of another history is resumed without a resync.',
    edits: [
      {
        file: `${server}connections/resume.ts`,
        find: 'broadcaster.position.history !== position.history',
        replace: "broadcaster.position.history === ''",
      },
    ],
    tests: [`${test}resume.test.ts`],
  },
  {
    name: 'wrong-channel',
    guarantee: 'G3',
    broken: 'Events are sent to all environments of their project.',
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
    broken: 'A heartbeat has a cursor whose events have not been sent.',
    edits: [
      {
        file: `${server}connections/v1-session.ts`,
        find: '    if (!this.#channels.every((channel) => channel.flush())) return;\n',
        replace: '',
      },
    ],
    tests: [`${test}delivery.test.ts`],
  },
  {
    name: 'slow-connection-unbounded',
    guarantee: 'G8',
    broken: 'The buffer of a connection that does not read is unbounded.',
    edits: [
      {
        file: `${server}connections/connection.ts`,
        find: 'this.#isBuffering && this.bufferedAmount > maxBufferedBytes;',
        replace: 'this.#isBuffering && this.bufferedAmount > maxBufferedBytes * 1e6;',
      },
    ],
    tests: [`${test}slow-connection.test.ts`],
  },
  {
    name: 'client-subscribes-without-cursor',
    broken: 'The client subscribes before it has a snapshot, without a cursor.',
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
    tests: ['packages/client/test/unit/client.test.ts'],
  },
  {
    name: 'client-repeats',
    guarantee: 'G4',
    broken: 'The client applies a repeated event twice.',
    edits: [
      {
        file: 'packages/client/src/store.ts',
        find: '      if (applied.has(event.id)) return;\n',
        replace: '',
      },
    ],
    tests: ['packages/client/test/unit/store.test.ts'],
  },
  {
    name: 'client-keeps-its-cursor-on-resync',
    broken: 'The client resumes from its old cursor after a resync.',
    edits: [
      {
        file: 'packages/client/src/channel.ts',
        find: '        resetSubscription();\n        cursor = undefined;\n        scheduleReload();\n',
        replace: '        resetSubscription();\n',
      },
    ],
    tests: ['packages/client/test/unit/client.test.ts'],
  },
];
