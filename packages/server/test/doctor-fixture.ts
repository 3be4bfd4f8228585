import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, afterEach, beforeAll, beforeEach, expect } from 'vitest';
import { install } from '../src/install/install.js';
import { examine, type ExamineOptions } from '../src/install/doctor/examine.js';
import type { Finding } from '../src/install/doctor/facts.js';
import { programFile } from './command.js';
import { createTestCluster, withClient, type TestCluster, type TestDatabase } from './database.js';

const execute = promisify(execFile);
const programs = fileURLToPath(new URL('../../../node_modules/.bin', import.meta.url));

/** A database without findings, with a role for the server, for tests that damage it. */
export interface DoctorFixture {
  readonly database: TestDatabase;
  readonly role: string;
  /** The connection string of the role. */
  readonly url: string;
  /** Runs statements as superuser, each by itself. */
  readonly run: (statements: string) => Promise<void>;
  /** What doctor finds as the role, or with another connection string. */
  readonly findings: (options?: ExamineOptions, url?: string) => Promise<readonly Finding[]>;
  /** The findings with this id that are not ok. */
  readonly problems: (id: string, options?: ExamineOptions) => Promise<readonly Finding[]>;
  /** Applies the fix of the finding as superuser: runs its statements, or its command in a shell. */
  readonly fix: (finding: Finding | undefined, databaseUrl?: string) => Promise<void>;
  /**
   * Damages the database, applies the fix of each finding, and expects that the findings disappear. Returns the first findings.
   */
  readonly expectFix: (id: string, damage: string, options?: ExamineOptions) => Promise<Finding>;
  drop(): Promise<void>;
}

export interface DoctorContext {
  /** A cluster of the file's own: doctor has findings about settings of the run's cluster. */
  readonly cluster: TestCluster;
  /** A new one for each test. */
  readonly fixture: DoctorFixture;
  /** Run after the test, the last one first. */
  readonly cleanUps: (() => Promise<void>)[];
}

/** The cluster and the fixtures of a test file. */
export function useDoctorFixture(): DoctorContext {
  let cluster: TestCluster;
  let fixture: DoctorFixture;
  const cleanUps: (() => Promise<void>)[] = [];

  beforeAll(async () => {
    cluster = await createTestCluster();
  });

  beforeEach(async () => {
    fixture = await createDoctorFixture(cluster);
  });

  afterEach(async () => {
    for (const cleanUp of cleanUps.splice(0).reverse()) await cleanUp();
    await fixture.drop();
  });

  afterAll(async () => {
    await cluster.remove();
  });

  return {
    get cluster() {
      return cluster;
    },
    get fixture() {
      return fixture;
    },
    cleanUps,
  };
}

/** Needs a cluster of the test's own, as `DoctorContext.cluster`. */
export async function createDoctorFixture(cluster: TestCluster): Promise<DoctorFixture> {
  const database = await cluster.createDatabase({ schema: 'tables' });
  const role = `reader_${randomBytes(4).toString('hex')}`;
  await withClient(database.url, async (client) => {
    await install(client, { role });
    await client.query(`ALTER ROLE ${role} PASSWORD 'hunter2'`);
  });
  const url = new URL(database.url);
  url.username = role;
  url.password = 'hunter2';
  const fixture: DoctorFixture = {
    database,
    role,
    url: url.toString(),
    async run(statements) {
      // As psql does: some statements refuse to share a transaction.
      for (const statement of statements.split(/;(?=\s|$)/)) {
        if (statement.replace(/--.*$/gm, '').trim() !== '') await database.pool.query(statement);
      }
    },
    async findings(options = {}, at = fixture.url) {
      return (await examine(at, { listen: false, ...options })).findings;
    },
    async problems(id, options) {
      const findings = await fixture.findings(options);
      return findings.filter((finding) => finding.id === id && finding.severity !== 'ok');
    },
    async fix(finding, databaseUrl = database.url) {
      const fix = finding?.fix;
      if (fix?.kind === 'sql') {
        await fixture.run(fix.text);
      } else if (fix?.kind === 'command') {
        await execute('sh', ['-c', fix.text], {
          env: {
            PATH: [
              path.dirname(programFile),
              programs,
              path.dirname(process.execPath),
              process.env['PATH'],
            ].join(':'),
            DATABASE_URL: databaseUrl,
          },
        });
      } else {
        throw new Error(`nothing to run: ${fix?.text ?? 'no fix'}`);
      }
    },
    async expectFix(id, damage, options) {
      await fixture.run(damage);
      const problems = await fixture.problems(id, options);
      const [problem] = problems;
      if (problem === undefined) throw new Error(`doctor has no finding with the id ${id}`);
      for (const each of problems) await fixture.fix(each);
      expect(await fixture.problems(id, options)).toEqual([]);
      return problem;
    },
    async drop() {
      await database.pool.query(`DROP OWNED BY ${role}; DROP ROLE ${role}`);
      await database.drop();
    },
  };
  return fixture;
}
