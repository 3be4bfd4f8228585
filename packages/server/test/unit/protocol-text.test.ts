import { readdirSync, readFileSync } from 'node:fs';
import {
  CloseCode,
  freshnessReasons,
  guaranteeReasons,
  isReconnectCode,
  maxChannels,
  type PlainMessage,
  type RequestErrorCode,
  requestErrors,
  resyncReasons,
} from '@flagcast/protocol';
import { describe, expect, it } from 'vitest';
import type { FlagEvent } from '../../src/events/event.js';
import { parseClientMessage } from '../../src/connections/codecs/client-message.js';
import { createPlainDialect, type EventTypes } from '../../src/connections/codecs/plain.js';
import { HttpProblem } from '../../src/http-problem.js';
import { type Row, tableOf } from '../document-table.js';
import {
  addedKeys,
  approvalsSnapshotKeys,
  clientKeys,
  controlKeys,
  featureKeys,
  pendingChangeKeys,
  plainKeys,
  snapshotKeys,
  typedRefusals,
} from '../protocol-messages.js';

const root = new URL('../../../../', import.meta.url);
const read = (path: string): string => readFileSync(new URL(path, root), 'utf8');
const text = read('PROTOCOL.md');

const table = (...columns: string[]): Row[] => tableOf(text, columns);

/** The words in code type. */
function words(cell = ''): string[] {
  return [...cell.matchAll(/`(\w+)`/g)].map(([, word = '']) => word);
}

/** The first words of the rows, to be compared with the code. */
function names(rows: readonly Row[], column: string): string[] {
  return rows.flatMap((row) => words(row[column]));
}

function keysOf(messages: Readonly<Record<string, object>>): Record<string, string[]> {
  return Object.fromEntries(
    Object.entries(messages).map(([type, keys]) => [
      type,
      Object.keys(keys)
        .filter((key) => key !== 'type')
        .sort(),
    ]),
  );
}

/** The fields that a plain client gets of the event: type, entity, action and the entity's id. */
function namesOf(
  event: Pick<FlagEvent, 'source' | 'entity' | 'entityId' | 'action' | 'featureId'>,
  eventTypes: EventTypes,
): string[] {
  const rest = { projectId: 'p', environmentId: '1', environmentKey: 'prod', createdAt: 't' };
  const unused = {
    id: '1',
    rowId: '1',
    xid: 0n,
    pendingChangeId: null,
    actor: null,
    committedAt: null,
    featureJson: null,
    featureUnreadable: false,
    pendingChangeJson: undefined,
    pendingChangeUnreadable: false,
  };
  const frame = createPlainDialect(eventTypes).encode({
    events: [{ ...rest, ...unused, ...event }],
    seenAtMs: 0,
    cursor: null,
  });
  const message = JSON.parse(frame.toString('utf8', frame.indexOf('{'))) as PlainMessage;
  expect(Object.keys(message)).toStrictEqual(Object.keys(plainKeys));
  return [message.type, message.entity, message.action, message.entity_id];
}

describe('PROTOCOL.md and the code agree on', () => {
  it('close codes and the reaction of a client', () => {
    const codes = new Set(Object.values(CloseCode).map(String));
    const named = [...text.matchAll(/\bclose[sd]?\b[^.|]*?\b(4\d{3})\b/g)].map(([, code = '']) => code);
    expect(named.length).toBeGreaterThan(5);
    expect(named.filter((code) => !codes.has(code))).toStrictEqual([]);
    const ranges =
      /^(\d+)-(\d+): connect again, .*\. (\d+)-(\d+): give up, .*\. Any other code, .*: connect again\.$/m;
    const [first = 0, last = 0, firstFinal = 0, lastFinal = 0] = (ranges.exec(text) ?? [])
      .slice(1)
      .map(Number);
    expect([first, last + 1]).toStrictEqual([4_000, firstFinal]);
    expect([first, last, firstFinal, lastFinal].map(isReconnectCode)).toStrictEqual([
      true,
      true,
      false,
      false,
    ]);
    expect([1_000, 1_006, 1_009, first - 1, lastFinal + 1].map(isReconnectCode)).not.toContain(false);
  });

  it('refusals by HTTP status', () => {
    const made = new Set(Object.entries(typedRefusals).map(([code, status]) => `${status} ${code}`));
    const transport = readdirSync(new URL('packages/server/src/transport/', root)).map(
      (file) => `transport/${file}`,
    );
    const api = ['app', 'request-limits'].map((file) => `api/${file}.ts`);
    for (const path of [
      'http-problem.ts',
      'auth/request-authorizer.ts',
      'auth/request-target.ts',
      ...['token-verifier', 'key-set', 'user-claim'].map((file) => `auth/${file}.ts`),
      ...transport,
      ...api,
    ]) {
      const source = read(`packages/server/src/${path}`);
      for (const [, code = ''] of source.matchAll(/HttpProblem\(\s*'(\w+)'/g)) {
        made.add(`${requestErrors[code as RequestErrorCode].status} ${code}`);
      }
    }
    const written = table('status', 'codes').flatMap(({ status = '', codes }) =>
      words(codes).map((code) => `${status} ${code}`),
    );
    expect(written.sort()).toStrictEqual([...made].sort());
  });

  it('the close code that a flagcast.v1 client gets for each refusal', () => {
    for (const { codes, 'close code': closeCodes = '' } of table('status', 'codes')) {
      const [, general = ''] = /^(\d+)/.exec(closeCodes) ?? [];
      for (const code of words(codes) as RequestErrorCode[]) {
        const [, own = general] = new RegExp(`\`${code}\` (\\d+)`).exec(closeCodes) ?? [];
        expect([code, new HttpProblem(code, '').closeCode]).toStrictEqual([code, Number(own)]);
      }
    }
  });

  it('the keys of events', () => {
    const [plain = [], added = []] = text
      .split('\n## ')
      .filter((section) => /^(The plain dialect|flagcast\.v1)\n/.test(section))
      .map((section) => [...section.matchAll(/^\| `(\w+)` +\|/gm)].map(([, key = '']) => key));
    expect(plain).toStrictEqual(Object.keys(plainKeys));
    const end = Object.keys(addedKeys).length;
    // Other tables of the section follow.
    const first = added.indexOf('id');
    expect(added.slice(first, first + end)).toStrictEqual(Object.keys(addedKeys));
    expect(text).toMatch(/each event one text message of exactly these keys/);
  });

  it('the names of events, of the specification and Togglr', () => {
    let count = 0;
    for (const row of table('`type`', "Togglr's `type`")) {
      const [specTypes = '', ...togglr] = Object.values(row);
      for (const specType of words(specTypes)) {
        const [, name = '', verb = ''] = /^(\w+)_(\w+)$/.exec(specType) ?? [];
        const isPending = name === 'pending_change';
        const source = isPending ? 'pending' : 'audit';
        const action = isPending && verb === 'created' ? 'pending' : verb;
        for (const entity of isPending ? ['feature', 'rule'] : [name]) {
          const event = { source, entity, action, entityId: entity, featureId: 'feature' } as const;
          expect(namesOf(event, 'spec')).toStrictEqual([specType, entity, action, entity]);
          const [type = '', newEntity = '', newAction = ''] = togglr.map((cell) => cell.replaceAll('`', ''));
          const expected = newEntity === '=' ? entity : newEntity;
          expect(namesOf(event, 'togglr')).toStrictEqual([
            type.replace('<entity>', entity),
            expected,
            newAction === '=' ? action : newAction,
            expected,
          ]);
          count += 1;
        }
      }
    }
    expect(count).toBe(16);
    const [, renamed] =
      /If the feature is not known, only the action is renamed \((.*)\)\.$/m.exec(text) ?? [];
    const orphan = { source: 'audit', entity: 'rule', action: 'updated', entityId: 'rule', featureId: null };
    expect(namesOf(orphan, 'togglr')).toStrictEqual([...words(renamed), 'rule']);
  });

  it("the server's messages", () => {
    const rows = table('type', 'keys', 'when');
    expect(rows[0]?.['type']).toBe('(event)');
    const written = Object.fromEntries(
      rows.slice(1).map((row) => [words(row['type'])[0] ?? '', words(row['keys']).sort()]),
    );
    const { close, ...overWebSocket } = keysOf(controlKeys);
    expect(written).toStrictEqual(overWebSocket);
    const [, inStream = ''] = /`\{"type":"close",(.*?)\}`/.exec(text) ?? [];
    expect([...inStream.matchAll(/"(\w+)"/g)].map(([, key]) => key)).toStrictEqual(close);
  });

  it("the client's messages and their fields that the parser accepts", () => {
    const rows = table('type', 'keys', 'precondition');
    const written = Object.fromEntries(
      rows.map((row) => [words(row['type'])[0] ?? '', words(row['keys']).sort()]),
    );
    expect(written).toStrictEqual(keysOf(clientKeys));
    for (const [type, uses] of Object.entries(clientKeys)) {
      const needed = Object.entries(uses).flatMap(([key, use]) => (use === 'always' ? [key] : []));
      // A type cannot express the "one of" of the table.
      const keys = 'env' in uses ? [...needed, 'project_id', 'env'] : needed;
      const message = Object.fromEntries(keys.map((key) => [key, key === 'type' ? type : 'x']));
      const isTaken = (value: object): boolean => !('problem' in parseClientMessage(JSON.stringify(value)));
      expect(isTaken(message)).toBe(true);
      expect(isTaken({ ...message, cursor: 'x' })).toBe('cursor' in uses);
      expect(isTaken({ ...message, other: 'x' })).toBe(false);
      if ('feed' in uses) {
        expect(isTaken({ type, feed: 'approvals' })).toBe(true);
        expect(isTaken({ type, feed: 'other' })).toBe(false);
        expect(isTaken({ ...message, feed: 'approvals' })).toBe(false);
      }
      for (const key of keys) {
        const without = Object.fromEntries(Object.entries(message).filter(([name]) => name !== key));
        expect([type, key, isTaken(without)]).toStrictEqual([type, key, false]);
      }
    }
    expect(text).toContain(`at most \`max_channels\``);
    expect(maxChannels).toBe(32);
  });

  it('the reasons of a resync, a guarantee and staleness', () => {
    expect(names(table('reason', 'meaning'), 'reason')).toStrictEqual([...resyncReasons]);
    expect(names(table('reason', 'guarantee'), 'reason')).toStrictEqual([...guaranteeReasons]);
    expect(names(table('reason', 'the server is stale because'), 'reason')).toStrictEqual([
      ...freshnessReasons,
    ]);
  });

  it('the snapshot', () => {
    const [, snapshot = ''] = text.split('\n## Snapshot\n');
    const [section = ''] = snapshot.split('\n## ');
    const rows = [...section.matchAll(/^\| (`.*?) +\|/gm)].flatMap(([, cell]) => words(cell));
    expect(rows.sort()).toStrictEqual(Object.keys(snapshotKeys).sort());
    const [, feedKeys = ''] = /^`GET \/api\/snapshot\?feed=approvals` returns (.*?)\.$/m.exec(text) ?? [];
    expect(words(feedKeys)).toStrictEqual(Object.keys(approvalsSnapshotKeys));
    const [, feature, change] = /^A feature: (.*)\. A pending change: (.*?) \(each/m.exec(section) ?? [];
    expect(words(feature)).toStrictEqual(Object.keys(featureKeys));
    expect(words(change)).toStrictEqual(Object.keys(pendingChangeKeys));
  });
});

describe('the guarantees', () => {
  const rows = table('number', 'guarantee', 'test');

  it('are numbered from G1 on, each once', () => {
    expect(rows.map(({ number }) => number)).toStrictEqual(rows.map((_, index) => `G${index + 1}`));
    expect(rows.length).toBeGreaterThanOrEqual(10);
  });

  it.each(rows.map(({ number = '', test = '' }) => [number, test]))(
    '%s names its test: %s',
    (number, test) => {
      const [, path = ''] = /^`(packages\/\S+\.test\.ts)`$/.exec(test) ?? [];
      expect(read(path)).toMatch(new RegExp(`\\(\\s*['"\`]${number}: .`));
    },
  );

  it('are the only guarantees that tests name', () => {
    const folders = ['packages/server/test/', 'packages/client/test/', 'e2e/'];
    const named = folders.flatMap((folder) =>
      readdirSync(new URL(folder, root))
        .filter((file) => /\.test\.tsx?$/.test(file))
        .flatMap((file) =>
          [...read(folder + file).matchAll(/\(\s*['"`](G\d+): /g)].map(([, number]) => number),
        ),
    );
    expect(new Set(named)).toStrictEqual(new Set(rows.map(({ number }) => number)));
  });
});
