import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createTrustedProxies } from '../../../server/src/auth/trusted-proxies.js';
import { createOriginPolicy } from '../../../server/src/auth/origin-policy.js';
import { HttpProblem } from '../../../server/src/http-problem.js';
import { channelFromQuery, cursorFromQuery } from '../../../server/src/auth/request-target.js';
import { parsePageKey } from '../../server/audit-search.js';
import { createTestDatabase, type TestDatabase } from '../../../server/test/database.js';
import { anyCharacter } from '../../../../testing/testkit/any-character.ts';

let database: TestDatabase;

beforeAll(async () => {
  database = await createTestDatabase({ schema: 'none' });
});

afterAll(async () => {
  await database.drop();
});

/** Texts as a browser can send them: whole characters, of all planes. */
const anyText = fc.string({ unit: anyCharacter, minLength: 1 });
const names = fc.constantFrom(
  'project_id',
  'env',
  'env_id',
  'environment_id',
  'cursor',
  'token',
  '__proto__',
  '',
);

describe('the parameters of a channel', () => {
  it('are parsed unchanged, with any characters', () => {
    fc.assert(
      fc.property(anyText, anyText, (projectId, environment) => {
        const byKey = new URLSearchParams({ project_id: projectId, env: environment });
        expect(channelFromQuery(new URLSearchParams(byKey.toString()))).toStrictEqual({
          projectId,
          environmentKey: environment,
        });
        for (const name of ['env_id', 'environment_id']) {
          const byId = new URLSearchParams({ project_id: projectId, [name]: environment });
          expect(channelFromQuery(new URLSearchParams(byId.toString()))).toStrictEqual({
            projectId,
            environmentId: environment,
          });
        }
      }),
      { numRuns: 500 },
    );
  });

  it('G10: give a channel, or a one-line error without their values, in any number and order', () => {
    const pairs = fc.array(fc.tuple(names, fc.oneof(fc.constantFrom('', 'a secret'), fc.string())), {
      maxLength: 6,
    });
    fc.assert(
      fc.property(
        fc.oneof(
          pairs.map((all) => new URLSearchParams(all).toString()),
          fc.string(),
        ),
        (text) => {
          const query = new URLSearchParams(text);
          for (const read of [channelFromQuery, cursorFromQuery]) {
            try {
              read(query);
            } catch (error) {
              if (!(error instanceof HttpProblem)) throw error;
              expect(error.status).toBe(400);
              expect(error.code).toMatch(/^(missing|repeated|conflicting)_parameters?$/);
              expect(error.message).toMatch(/^[^\n]{10,150}$/);
              expect(error.message).not.toContain('a secret');
            }
          }
        },
      ),
      { numRuns: 2_000 },
    );
  });
});

describe('a key of a page of the history', () => {
  const at = fc
    .date({
      min: new Date('0001-01-01T00:00:00Z'),
      max: new Date('9999-12-31T23:59:59Z'),
      noInvalidDate: true,
    })
    .map((date) => date.toISOString().replace('Z', '001Z'));
  const auditId = fc.bigInt({ min: 0n, max: 2n ** 63n - 1n }).map(String);

  it('is parsed as it was written', () => {
    fc.assert(
      fc.property(at, auditId, fc.uuid(), fc.constantFrom(1, 2), (time, id, changeId, rank) => {
        expect(parsePageKey(`${time}_0_${id}`)).toStrictEqual({
          at: time,
          rank: 0,
          auditId: id,
          changeId: null,
        });
        expect(parsePageKey(`${time}_${rank}_${changeId}`)).toStrictEqual({
          at: time,
          rank,
          auditId: null,
          changeId,
        });
      }),
    );
  });

  it('G10: is refused, or is valid for PostgreSQL, with any content', async () => {
    const time = fc
      .tuple(fc.nat(10_000), fc.nat(14), fc.nat(33), fc.nat(25), fc.nat(61), fc.nat(61))
      .map(([year, ...rest]) => {
        const [month, day, hour, minute, second] = rest.map((part) => String(part).padStart(2, '0'));
        return `${String(year).padStart(4, '0')}-${month ?? ''}-${day ?? ''}T${hour ?? ''}:${minute ?? ''}:${second ?? ''}.000000Z`;
      });
    const id = fc.oneof(fc.uuid(), fc.bigInt({ min: -5n, max: 2n ** 64n }).map(String), fc.string());
    const forged = fc.tuple(fc.oneof(time, fc.string()), fc.constantFrom('0', '1', '2', '3', ''), id);
    const understood: NonNullable<ReturnType<typeof parsePageKey>>[] = [];
    fc.assert(
      fc.property(forged, (parts) => {
        const place = parsePageKey(parts.join('_'));
        if (place !== null) understood.push(place);
      }),
      { numRuns: 5_000 },
    );
    expect(understood.length).toBeGreaterThan(20);
    await database.pool.query('SELECT $1::timestamptz[], $2::bigint[], $3::uuid[]', [
      understood.map((place) => place.at),
      understood.map((place) => place.auditId),
      understood.map((place) => place.changeId),
    ]);
  });
});

describe('G10: headers of arbitrary bytes', () => {
  const header = fc.uint8Array({ maxLength: 60 }).map((bytes) => Buffer.from(bytes).toString('latin1'));

  it('give an origin that is allowed or not, and an address', () => {
    const policy = createOriginPolicy(['https://flags.example.com']);
    const { clientAddress: addressOf } = createTrustedProxies(['127.0.0.1', '10.0.0.0/8']);
    const origins = fc.oneof(
      header,
      fc.tuple(fc.constantFrom('https://', 'http://'), header).map((all) => all.join('')),
    );
    fc.assert(
      fc.property(origins, header, (origin, host) => {
        const socket = { remoteAddress: '127.0.0.1' };
        expect(policy.isAllowed({ headers: { origin, host }, socket })).toBeTypeOf('boolean');
        expect(addressOf({ headers: { 'x-forwarded-for': `${host}, 10.1.2.3` }, socket })).toMatch(
          /^[\da-f.:]+$/i,
        );
      }),
      { numRuns: 1_000 },
    );
  });
});
