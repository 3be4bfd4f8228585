/** @import { Mutation } from './table.js' */

const server = 'packages/server/src/';
const test = 'packages/server/test/';

/** @type {readonly Mutation[]} */
export const ofDelivery = [
  {
    name: 'watermark-dropped',
    guarantee: 'G1',
    broken:
      'The next read begins where the last snapshot ended, not at the oldest transaction that was running.',
    edits: [
      {
        file: `${server}reader/exact-tracker.ts`,
        find: 'return [this.#watermark.value.toString(), this.#floor, seen];',
        replace: 'return [this.#watermark.horizon.toString(), this.#floor, seen];',
      },
    ],
    tests: [`${test}watermark.test.ts`],
  },
  {
    name: 'floor-by-the-clock',
    guarantee: 'G1',
    broken: 'The floor is the clock: transactions that were open for long before they wrote are cut off.',
    edits: [
      {
        file: `${server}reader/statements.ts`,
        find: '        clock,\n        started,\n',
        replace: '        clock,\n',
      },
    ],
    tests: [`${test}watermark.test.ts`],
  },
  {
    name: 'prepared-transactions-forgotten',
    guarantee: 'G1',
    broken: 'A transaction that was prepared long ago does not hold the floor back.',
    edits: [
      {
        file: `${server}reader/statements.ts`,
        find: "        prepared - coalesce(look_back, interval '0'),\n",
        replace: '',
      },
    ],
    tests: [`${test}watermark.test.ts`],
  },
  {
    name: 'savepoints-forgotten',
    guarantee: 'G1',
    broken: 'Of a transaction that was running only its own id counts as new, not those of its savepoints.',
    edits: [
      {
        file: `${server}reader/exact-tracker.ts`,
        find: 'const fresh = events.filter((event) => this.#delivered.add(event));',
        replace: `const { value, horizon } = this.#watermark;
    const fresh = events.filter(
      (event) => (event.mark === value || event.mark >= horizon) && this.#delivered.add(event),
    );`,
      },
    ],
    tests: [`${test}watermark.test.ts`],
  },
  {
    name: 'namesakes-after-a-crash',
    guarantee: 'G1',
    broken: 'A transaction with the id of one that a crash took back counts as delivered.',
    edits: [
      {
        file: `${server}reader/exact-tracker.ts`,
        find: '    this.#delivered.doubt(this.#watermark.horizon);\n',
        replace: '',
      },
    ],
    tests: [`${test}watermark.test.ts`],
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
    name: 'ids-that-a-crash-took-back',
    guarantee: 'G1',
    broken:
      'Ids that waited for the log to reach the disk are still waited for after the connection was lost.',
    edits: [
      {
        file: `${server}reader/watermark.ts`,
        find: '  forgetWaiting(): void {\n    this.#waiting = [];\n',
        replace: '  forgetWaiting(): void {\n',
      },
    ],
    tests: [`${test}watermark.test.ts`],
  },
  {
    name: 'ids-before-they-are-durable',
    guarantee: 'G1',
    broken: 'Transaction ids are trusted before the log is on disk, and a crash hands them out again.',
    edits: [
      {
        file: `${server}reader/watermark.ts`,
        find: 'candidate.insertLsn > flushLsn',
        replace: 'candidate.insertLsn > flushLsn + 2n ** 62n',
      },
    ],
    tests: [`${test}watermark.test.ts`],
  },
  {
    name: 'server-repeats',
    guarantee: 'G4',
    broken: 'The reader does not remember what it has delivered above the watermark.',
    edits: [
      {
        file: `${server}reader/exact-tracker.ts`,
        find: '    if (delivered.identities.has(identity)) return false;\n',
        replace: '    if (delivered.identities.has(identity)) return true;\n',
      },
      {
        file: `${server}reader/exact-tracker.ts`,
        find: 'this.#delivered.size > maxLeftOut ? []',
        replace: 'this.#delivered.size >= 0 * maxLeftOut ? []',
      },
    ],
    tests: [`${test}watermark.test.ts`],
  },
  {
    name: 'decisions-by-the-floor',
    guarantee: 'G1',
    broken:
      "A decision whose time was written by a host's slow clock is older than the floor, and is not read.",
    edits: [
      {
        file: `${server}reader/statements.ts`,
        find: "      (v.source = 'pending' AND v.action <> 'pending')\n      OR (v.created_at",
        replace: '      (v.created_at',
      },
    ],
    tests: [`${test}watermark.test.ts`],
  },
  {
    name: 'poll-switched-off',
    guarantee: 'G1',
    broken: 'Without a hint nothing is read.',
    edits: [
      {
        file: `${server}reader/reader.ts`,
        find: 'backoff ?? Math.max(this.#pollDueAtMs - performance.now(), 0);',
        replace: 'backoff ?? 2_147_483_647;',
      },
    ],
    tests: [`${test}http.test.ts`],
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
    name: 'ring-beyond-its-reach',
    guarantee: 'G5',
    broken: 'The ring answers for what came before it.',
    edits: [
      {
        file: `${server}broadcast/ring.ts`,
        find: 'if (position.horizon <= this.#startXmax) return null;',
        replace: 'if (position.horizon + 2n ** 62n <= this.#startXmax) return null;',
      },
    ],
    tests: [`${test}resume.test.ts`],
  },
  {
    name: 'made-up-event',
    guarantee: 'G2',
    broken: 'A read that finds nothing brings an event all the same, which nobody has committed.',
    edits: [
      {
        file: `${server}reader/statements.ts`,
        find: "  if (xid === null && (view.guarantee === 'exact' || column(8) === null)) return null;\n",
        replace: '',
      },
    ],
    tests: [`${test}watermark.test.ts`],
  },
  {
    name: 'cursor-of-one-server',
    guarantee: 'G7',
    broken: 'A cursor is good only at the server that gave it.',
    edits: [
      {
        file: `${server}reader/reading-session.ts`,
        find: '.update(`${history?.database',
        replace: '.update(`${performance.now()}${history?.database',
      },
    ],
    tests: [`${test}resume.test.ts`],
  },
  {
    name: 'cursor-that-harms',
    guarantee: 'G10',
    broken: 'A cursor that somebody made up reaches the database with a time that it does not understand.',
    edits: [
      {
        file: `${server}events/position.ts`,
        find: '!isTimestamp(floor)) return null;',
        replace: '(floor.length > 40 && !isTimestamp(floor))) return null;',
      },
    ],
    tests: [`${test}position.test.ts`],
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
    name: 'cursor-before-its-events',
    guarantee: 'G5',
    broken: 'A peer that does not read is taken to have what it was not sent.',
    edits: [
      {
        file: `${server}connection/subscription.ts`,
        find: "      if (this.#after < run.last) this.#state = 'behind';\n      return;",
        replace:
          "      if (this.#after < run.last) this.#state = 'behind';\n      this.#after = run.last;\n      this.#position = run.position;\n      return;",
      },
    ],
    tests: [`${test}slow-peer.test.ts`],
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
    name: 'snapshot-knows-nothing',
    guarantee: 'G6',
    broken: "A snapshot's cursor does not leave out what the snapshot shows already.",
    edits: [
      {
        file: `${server}history/snapshot.ts`,
        find: "shown: shown.filter((xid) => xid !== '').map(BigInt)",
        replace: "shown: shown.filter((xid) => xid === '-').map(BigInt)",
      },
    ],
    tests: [`${test}snapshot.test.ts`],
  },
  {
    name: 'client-begins-before-its-snapshot',
    broken: 'The client subscribes before it has a snapshot, from no cursor.',
    edits: [
      {
        file: 'packages/client/src/channel.ts',
        find: 'if (cursor && reach > 1 && !subscribed) {',
        replace: 'if (reach > 1 && !subscribed) {',
      },
      {
        file: 'packages/client/src/channel.ts',
        find: "connection.send({ type: 'subscribe', ...address, cursor });",
        replace: "connection.send({ type: 'subscribe', ...address, ...(cursor ? { cursor } : {}) });",
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
        find: '        drop();\n        cursor = undefined;\n        refetch();\n',
        replace: '        drop();\n',
      },
    ],
    tests: ['packages/client/test/client.test.ts'],
  },
];
