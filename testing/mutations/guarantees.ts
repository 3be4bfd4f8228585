/** A promise of README, PROTOCOL or SECURITY, and a change of the source that breaks it at its heart. */
export interface Guarantee {
  readonly name: string;
  /** In the words of PROTOCOL.md for a number, else of README.md or SECURITY.md. */
  readonly promise: string;
  /** In PROTOCOL.md. */
  readonly numbers: readonly string[];
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

const source = 'packages/server/src/';
const test = 'packages/server/test/';

export const guarantees: readonly Guarantee[] = [
  {
    name: 'late-commit',
    promise:
      'Every committed event is delivered, however its transaction commits and whatever its timestamp.',
    numbers: ['G1', 'G11'],
    effect: 'Transactions that were in flight during a read count as delivered.',
    file: `${source}reader/log-progress.ts`,
    find: '        ...snapshot.xids.filter((xid) => xid < end),\n',
    replace: '',
    test: `${test}no-loss.test.ts`,
  },
  {
    name: 'delivered-again',
    promise: 'Nothing that was rolled back is shown, and no event twice on a connection.',
    numbers: ['G2', 'G4'],
    effect: 'After a reconnect the reader delivers events again.',
    file: `${source}reader/log-progress.ts`,
    find: 'return !this.#unflushed.findAgain(row);',
    replace: 'return !this.#unflushed.findAgain(row) || row.seq > 0n;',
    test: `${test}no-loss.test.ts`,
  },
  {
    name: 'channel-unauthorized',
    promise: 'A client gets events only of channels that it may view.',
    numbers: ['G3'],
    effect: 'Every user may open every channel.',
    file: `${source}auth/table-authorization.ts`,
    find: "if (!allowed) answers.set(question, 'forbidden');\n      else if",
    replace: 'if',
    test: `${test}isolation.test.ts`,
  },
  {
    name: 'cursor-expired',
    promise: 'A client that resumes from its cursor gets every event that it missed, in order, or resync.',
    numbers: ['G5'],
    effect: 'A cursor from before the retention gets a part of the missed events, without a resync.',
    file: `${source}replay/missed-events.ts`,
    find: 'expired: BigInt(lows[0] ?? position.xmax.toString()) <= deletedXid,',
    replace: 'expired: deletedXid < 0n,',
    test: `${test}resume.test.ts`,
  },
  {
    name: 'snapshot-cursor',
    promise: 'A snapshot and the events after its cursor together are the state of the database.',
    numbers: ['G6'],
    effect: "A snapshot's cursor does not exclude the events that the snapshot contains.",
    file: `${source}replay/snapshot.ts`,
    find: '  return { ...coverage, history: readerPosition.history };',
    replace: '  return { ...coverage, xmin: 3n, xmax: 3n, xids: [], history: readerPosition.history };',
    test: `${test}snapshot.test.ts`,
  },
  {
    name: 'cursor-of-one-server',
    promise: 'A cursor is valid on every server of the same database, also after a restart.',
    numbers: ['G7'],
    effect: 'A cursor is valid only on the server that issued it.',
    file: `${source}reader/read-history.ts`,
    find: '.update(JSON.stringify(parts))',
    replace: '.update(JSON.stringify([performance.now(), ...parts]))',
    test: `${test}resume.test.ts`,
  },
  {
    name: 'slow-connection-loses',
    promise: 'A client that does not read costs bounded memory, delays no other client, and loses nothing.',
    numbers: ['G8'],
    effect: 'A connection that is full skips the events of that time.',
    file: `${source}connections/subscription.ts`,
    find: "      if (this.#after < batch.last) {\n        this.#state = 'behind';\n",
    replace: '      if (this.#after < batch.last) {\n        this.#after = batch.last;\n',
    test: `${test}slow-connection.test.ts`,
  },
  {
    name: 'revoked-permission',
    promise: 'A revoked permission ends the channel; an expired token closes the connection.',
    numbers: ['G9', 'G14'],
    effect: 'A connection outlives the permission to view its channel.',
    file: `${source}connections/connection-monitor.ts`,
    find: 'filter((key) => !allowed.has(key))',
    replace: 'filter((key) => allowed.has(key) && !viewers.has(key))',
    test: `${test}channel-changes.test.ts`,
  },
  {
    name: 'one-row-stops-reader',
    promise: 'Input from a client or a row ends at most the connection of one client.',
    numbers: ['G10'],
    effect: 'A row that cannot be decoded stops the reader.',
    file: `${source}reader/reading-session.ts`,
    find: 'const canAvoid = isOfData(error) ||',
    replace: 'const canAvoid =',
    test: `${test}field-cases.test.ts`,
  },
  {
    name: 'stale-hidden',
    promise: 'A server that does not read its database sends stale with the reason within seconds.',
    numbers: ['G12'],
    effect: 'A failed read does not make the server stale.',
    file: `${source}reader/freshness.ts`,
    find: '      if (attempt <= failuresAllowed) return;\n',
    replace: '      if (attempt > -failuresAllowed) return;\n',
    test: `${test}freshness.test.ts`,
  },
  {
    name: 'deleted-channel',
    promise: 'A channel ends with a reason when its environment or project is gone.',
    numbers: ['G13'],
    effect: 'A channel stays open after its environment was deleted.',
    file: `${source}broadcast/broadcaster.ts`,
    find: '    this.#change(channelKey(projectId, control.environmentId), change);',
    replace:
      "    if (change.type === 'renamed') this.#change(channelKey(projectId, control.environmentId), change);",
    test: `${test}channel-changes.test.ts`,
  },
  {
    name: 'forged-token',
    promise: 'Forged tokens, and tokens for another purpose, are refused.',
    numbers: [],
    effect: 'The signature of a token is not checked.',
    file: `${source}auth/token-verifier.ts`,
    find: "async (token) => await jwtVerify(token, await key, { ...claims, algorithms: ['HS256'] });",
    replace:
      "async (token) => ({ payload: (await import('jose')).decodeJwt(token), protectedHeader: { alg: 'HS256' }, key: await key });",
    test: `${test}unit/token.test.ts`,
  },
  {
    name: 'own-approval',
    promise: 'A guarded change needs a second person, who decides on what was shown.',
    numbers: [],
    effect: 'A user may approve their own request.',
    file: 'packages/console/server/writes/decisions.ts',
    find: '  if (request.own) {\n',
    replace: "  if (request.own && rights.userId === '') {\n",
    test: 'packages/console/test/server/rest-approvals.test.ts',
  },
  {
    name: 'sessions-unbounded',
    promise: 'FLAGCAST_DB_CONNECTIONS bounds the sessions of a server.',
    numbers: [],
    effect: 'A pool opens a session for every request.',
    file: `${source}postgres/session-pool.ts`,
    find: 'if (this.used < limit) {',
    replace: 'if (this.used < limit * 1e6) {',
    test: `${test}sessions.test.ts`,
  },
  {
    name: 'ninth-key',
    promise: 'A plain client gets messages of exactly the eight keys of the specification.',
    numbers: [],
    effect: 'The plain message has a ninth key.',
    file: `${source}connections/codecs/plain.ts`,
    find: 'JSON.stringify(toMessage(event))',
    replace: 'JSON.stringify({ ...toMessage(event), id: event.id })',
    test: `${test}plain-dialect.test.ts`,
  },
];

/** Breaks the guarantee in the content of its file. Throws an Error if the text does not occur exactly once there. */
export function mutate(content: string, { file, find, replace }: Guarantee): string {
  const [before = '', after, ...others] = content.split(find);
  if (after !== undefined && others.length === 0) return before + replace + after;
  throw new Error(`${file} must contain this text exactly once: ${JSON.stringify(find)}`);
}
