/** A change of the source that breaks a guarantee. */
export interface Mutation {
  readonly name: string;
  /** What happens, in one sentence. */
  readonly effect: string;
  /** From the root of the repository. */
  readonly file: string;
  /** Text that occurs exactly once in the file, and what replaces it. */
  readonly find: string;
  readonly replace: string;
  /** The test file in which a test must fail, from the root of the repository. */
  readonly test: string;
}

/** A promise of README, PROTOCOL or SECURITY, and what breaks it at its heart. */
export interface Guarantee {
  /** In the words of PROTOCOL.md for a number, else of README.md or SECURITY.md. */
  readonly promise: string;
  /** In PROTOCOL.md. */
  readonly numbers: readonly string[];
  readonly mutations: readonly Mutation[];
}

const source = 'packages/server/src/';
const test = 'packages/server/test/';

export const guarantees: readonly Guarantee[] = [
  {
    promise:
      'Every committed event is delivered, however its transaction commits and whatever its timestamp.',
    numbers: ['G1', 'G11'],
    mutations: [
      {
        name: 'late-commit',
        effect: 'Transactions that were in flight during a read count as delivered.',
        file: `${source}reader/log-progress.ts`,
        find: '        ...snapshot.xids.filter((xid) => xid < end),\n',
        replace: '',
        test: `${test}no-loss.test.ts`,
      },
      {
        name: 'old-timestamp',
        effect: 'Events with a created_at older than an hour are not read.',
        file: `${source}reader/log-statements.ts`,
        find: 'WHERE l.xid BETWEEN range.low AND range.high\n      ORDER BY',
        replace:
          "WHERE l.xid BETWEEN range.low AND range.high AND l.created_at > now() - interval '1 hour'\n      ORDER BY",
        test: `${test}v1-events.test.ts`,
      },
      {
        name: 'unflushed-cursor',
        effect: 'A coverage counts as durable before the write-ahead log is flushed.',
        file: `${source}reader/durable-coverage.ts`,
        find: '(each.insertLsn ?? 0n) > flushLsn);',
        replace: '(each.insertLsn ?? 0n) > flushLsn + 2n ** 62n);',
        test: `${test}log-crash.test.ts`,
      },
    ],
  },
  {
    promise: 'Nothing that was rolled back is shown, and no event twice on a connection.',
    numbers: ['G2', 'G4'],
    mutations: [
      {
        name: 'undone-commits',
        effect: 'A crash that undid delivered commits is not noticed.',
        file: `${source}reader/unflushed-rows.ts`,
        find: '      if (fingerprints.size > 0) return true;\n',
        replace: '',
        test: `${test}log-crash.test.ts`,
      },
      {
        name: 'delivered-again',
        effect: 'After a reconnect the reader delivers events again.',
        file: `${source}reader/log-progress.ts`,
        find: 'return !this.#unflushed.findAgain(row);',
        replace: 'return !this.#unflushed.findAgain(row) || row.seq > 0n;',
        test: `${test}no-loss.test.ts`,
      },
    ],
  },
  {
    promise: 'A client gets events only of channels that it may view.',
    numbers: ['G3'],
    mutations: [
      {
        name: 'wrong-channel',
        effect: 'Events are sent to all environments of their project.',
        file: `${source}events/event.ts`,
        find: 'encodeURIComponent)}/${environmentId}`',
        replace: 'encodeURIComponent)}/${environmentId.slice(0, 0)}`',
        test: `${test}isolation.test.ts`,
      },
      {
        name: 'channel-unauthorized',
        effect: 'Every user may open every channel.',
        file: `${source}auth/table-authorization.ts`,
        find: "if (!answer.allowed) return 'forbidden';",
        replace: '',
        test: `${test}isolation.test.ts`,
      },
    ],
  },
  {
    promise: 'A client that resumes from its cursor gets every event that it missed, in order, or resync.',
    numbers: ['G5'],
    mutations: [
      {
        name: 'resume-incomplete',
        effect: 'The replay buffer answers for events older than its content.',
        file: `${source}broadcast/replay-buffer.ts`,
        find: 'if (position.xmax <= this.#startXmax) return null;',
        replace: '',
        test: `${test}resume.test.ts`,
      },
      {
        name: 'resume-out-of-order',
        effect: 'Missed events from the database come in reverse order.',
        file: `${source}reader/log-statements.ts`,
        find: '  LIMIT ${limit}\n) l ON true\nORDER BY l.seq`',
        replace: '  LIMIT ${limit}\n) l ON true\nORDER BY l.seq DESC`',
        test: `${test}resume.test.ts`,
      },
      {
        name: 'cursor-expired',
        effect: 'A cursor from before the retention gets a part of the missed events, without a resync.',
        file: `${source}replay/missed-events.ts`,
        find: 'expired: BigInt(lows[0] ?? position.xmax.toString()) <= deletedXid,',
        replace: 'expired: deletedXid < 0n,',
        test: `${test}resume.test.ts`,
      },
    ],
  },
  {
    promise: 'A snapshot and the events after its cursor together are the state of the database.',
    numbers: ['G6'],
    mutations: [
      {
        name: 'snapshot-cursor',
        effect: "A snapshot's cursor does not exclude the events that the snapshot contains.",
        file: `${source}replay/snapshot.ts`,
        find: '  return { ...coverage, history: readerPosition.history };',
        replace: '  return { ...coverage, xmin: 3n, xmax: 3n, xids: [], history: readerPosition.history };',
        test: `${test}snapshot.test.ts`,
      },
    ],
  },
  {
    promise: 'A cursor is valid on every server of the same database, also after a restart.',
    numbers: ['G7'],
    mutations: [
      {
        name: 'cursor-of-one-server',
        effect: 'A cursor is valid only on the server that issued it.',
        file: `${source}reader/read-history.ts`,
        find: '.update(JSON.stringify(parts))',
        replace: '.update(JSON.stringify([performance.now(), ...parts]))',
        test: `${test}resume.test.ts`,
      },
    ],
  },
  {
    promise: 'A client that does not read costs bounded memory, delays no other client, and loses nothing.',
    numbers: ['G8'],
    mutations: [
      {
        name: 'slow-connection-loses',
        effect: 'A connection that is full skips the events of that time.',
        file: `${source}connections/subscription.ts`,
        find: "      if (this.#after < batch.last) {\n        this.#state = 'behind';\n",
        replace: '      if (this.#after < batch.last) {\n        this.#after = batch.last;\n',
        test: `${test}slow-connection.test.ts`,
      },
    ],
  },
  {
    promise: 'A revoked permission ends the channel; an expired token closes the connection.',
    numbers: ['G9', 'G14'],
    mutations: [
      {
        name: 'revoked-permission',
        effect: 'A connection outlives the permission to view its channel.',
        file: `${source}connections/connection-monitor.ts`,
        find: 'return allowed.has(key) || !viewers.has(key);',
        replace: 'return allowed.has(key) || viewers.has(key);',
        test: `${test}channel-changes.test.ts`,
      },
      {
        name: 'expired-token',
        effect: 'A connection outlives its token.',
        file: `${source}connections/connection-monitor.ts`,
        find: 'if (principal.expiresAtMs <= nowMs)',
        replace: 'if (principal.expiresAtMs < 0)',
        test: `${test}connection-monitor.test.ts`,
      },
    ],
  },
  {
    promise: 'Input from a client or a row ends at most the connection of one client.',
    numbers: ['G10'],
    mutations: [
      {
        name: 'one-row-stops-reader',
        effect: 'A row that cannot be decoded stops the reader.',
        file: `${source}reader/page-size.ts`,
        find: "const isOfData = code.startsWith('22') ||",
        replace: "const isOfData = code.startsWith('99') ||",
        test: `${test}field-cases.test.ts`,
      },
    ],
  },
  {
    promise: 'A server that does not read its database sends stale with the reason within seconds.',
    numbers: ['G12'],
    mutations: [
      {
        name: 'stale-hidden',
        effect: 'A failed read does not make the server stale.',
        file: `${source}reader/freshness.ts`,
        find: '      if (attempt <= failuresAllowed) return;\n',
        replace: '      if (attempt > -failuresAllowed) return;\n',
        test: `${test}freshness.test.ts`,
      },
    ],
  },
  {
    promise: 'A channel ends with a reason when its environment or project is gone.',
    numbers: ['G13'],
    mutations: [
      {
        name: 'deleted-channel',
        effect: 'A channel stays open after its environment was deleted.',
        file: `${source}broadcast/broadcaster.ts`,
        find: "    if (type === 'environment_deleted') this.#end(channel, type);\n    else {\n",
        replace: "    if (type === 'environment_renamed') {\n",
        test: `${test}channel-changes.test.ts`,
      },
    ],
  },
  {
    promise: 'Forged tokens, and tokens for another purpose, are refused.',
    numbers: [],
    mutations: [
      {
        name: 'forged-token',
        effect: 'The signature of a token is not checked.',
        file: `${source}auth/token-verifier.ts`,
        find: "async (token) => await jwtVerify(token, await key, { ...claims, algorithms: ['HS256'] });",
        replace:
          "async (token) => ({ payload: (await import('jose')).decodeJwt(token), protectedHeader: { alg: 'HS256' }, key: await key });",
        test: `${test}unit/token.test.ts`,
      },
    ],
  },
  {
    promise: 'A guarded change needs a second person, who decides on what was shown.',
    numbers: [],
    mutations: [
      {
        name: 'guard-bypassed',
        effect: 'A change of a guarded environment is written at once.',
        file: `${source}api/writes/feature-writes.ts`,
        find: '  if (environment.guarded) return environment;\n',
        replace: '',
        test: `${test}rest-guarded.test.ts`,
      },
      {
        name: 'own-approval',
        effect: 'A user may approve their own request.',
        file: `${source}api/writes/decisions.ts`,
        find: '  if (request.own) {\n',
        replace: "  if (request.own && rights.userId === '') {\n",
        test: `${test}rest-approvals.test.ts`,
      },
      {
        name: 'outdated-decision',
        effect: 'An approval overwrites what changed after the request.',
        file: `${source}api/writes/apply-change.ts`,
        find: '  await refuseConflicts(client, change, JSON.stringify(current));\n',
        replace: '',
        test: `${test}rest-approvals.test.ts`,
      },
    ],
  },
  {
    promise: 'FLAGCAST_DB_CONNECTIONS bounds the sessions of a server.',
    numbers: [],
    mutations: [
      {
        name: 'sessions-unbounded',
        effect: 'A pool opens a session for every request.',
        file: `${source}postgres/session-pool.ts`,
        find: 'if (this.#used < limit) {',
        replace: 'if (this.#used < limit * 1e6) {',
        test: `${test}sessions.test.ts`,
      },
    ],
  },
  {
    promise: 'A plain client gets messages of exactly the eight keys of the specification.',
    numbers: [],
    mutations: [
      {
        name: 'ninth-key',
        effect: 'The plain message has a ninth key.',
        file: `${source}connections/codecs/plain.ts`,
        find: 'JSON.stringify(toMessage(event))',
        replace: 'JSON.stringify({ ...toMessage(event), id: event.id })',
        test: `${test}plain-dialect.test.ts`,
      },
    ],
  },
];

/** Applies a mutation to the content of its file. Throws an Error if the text does not occur exactly once there. */
export function mutate(content: string, { file, find, replace }: Mutation): string {
  const [before = '', after, ...others] = content.split(find);
  if (after !== undefined && others.length === 0) return before + replace + after;
  throw new Error(`${file} must contain this text exactly once: ${JSON.stringify(find)}`);
}
